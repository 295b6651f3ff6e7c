// Owner of aligned host memory or of device memory, and the count of all host memory.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/base/device.h"

namespace longtake {

class Buffer {
 public:
  static constexpr size_t kAlignment = 64;

  Buffer() = default;
  // Contents undefined; never null, also for 0 bytes. Without `memory`: host memory.
  explicit Buffer(size_t bytes, DeviceMemory* memory = nullptr);

  void* data() { return data_.get(); }
  void* data() const { return data_.get(); }
  size_t bytes() const { return data_.get_deleter().bytes; }

  // Of all host buffers of this process: now, and the most since reset_peak_bytes().
  static size_t live_bytes();
  static size_t peak_bytes();
  static void reset_peak_bytes();

 private:
  struct Free {
    size_t bytes;
    DeviceMemory* memory;
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
};

}  // namespace longtake
