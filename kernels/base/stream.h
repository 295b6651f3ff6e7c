// The queue that an operator's work goes to: last parameter of every operator, no default. On the
// CPU it is a thread pool and work is done when the call returns.
#pragma once

#include "kernels/base/device.h"
#include "kernels/base/thread_pool.h"

namespace longtake {

class StreamRef {
 public:
  explicit StreamRef(ThreadPool& pool) : pool_(&pool) {}

  Device device() const { return device_; }
  ThreadPool& pool() const { return *pool_; }

 private:
  Device device_;
  ThreadPool* pool_ = nullptr;
};

}  // namespace longtake
