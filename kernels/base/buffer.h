// Owner of aligned host memory.
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
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t bytes_ = 0;
};

}  // namespace longtake
