// Owner of aligned host memory, and the count of all of it.
#pragma once

#include <cstddef>
#include <memory>

namespace longtake {

class Buffer {
 public:
  static constexpr size_t kAlignment = 64;

  Buffer() = default;
  explicit Buffer(size_t bytes);  // contents undefined; never null, also for 0 bytes

  void* data() { return data_.get(); }
  void* data() const { return data_.get(); }
  size_t bytes() const { return data_.get_deleter().bytes; }

  // Of all buffers of this process: now, and the most since reset_peak_bytes().
  static size_t live_bytes();
  static size_t peak_bytes();
  static void reset_peak_bytes();

 private:
  struct Free {
    size_t bytes;
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
};

}  // namespace longtake
