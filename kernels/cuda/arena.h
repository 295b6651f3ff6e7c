// Device memory of one stream: blocks are taken from the driver once and used again. Sizes are
// rounded, so that the few shapes of a run meet; memory that cannot be had is looked for among the
// free blocks before the call fails.
#pragma once

#include <map>
#include <mutex>

#include "kernels/base/device.h"

namespace longtake::cuda {

class Arena : public DeviceMemory {
 public:
  Arena(int device, const char* device_name) : device_(device), device_name_(device_name) {}
  ~Arena() override;

  void* allocate(size_t bytes) override;
  void free(void* data, size_t bytes) override;  // from any thread
  void trim();                                   // gives free blocks back to the driver

  size_t held_bytes() const;
  size_t peak_bytes() const;

 private:
  static size_t rounded(size_t bytes);
  int device_;
  const char* device_name_;
  mutable std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::map<void*, size_t> used_;
  size_t held_ = 0, in_use_ = 0, peak_ = 0;
};

}  // namespace longtake::cuda
