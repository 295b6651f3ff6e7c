// The queue that an operator's work goes to: last parameter of every operator, no default. On the
// CPU it is a thread pool and work is done when the call returns; on a GPU the call returns at once
// and the work is done in the order of the calls.
#pragma once

#include <chrono>

#include "kernels/base/device.h"
#include "kernels/base/thread_pool.h"

namespace longtake {

// Seconds that a stream's caller spent in the two operators that take most of the time.
struct WorkClock {
  double attention_s = 0;
  double linear_s = 0;
};

namespace cuda {
class Stream;
}

class StreamRef {
 public:
  explicit StreamRef(ThreadPool& pool, WorkClock* clock = nullptr) : pool_(&pool), clock_(clock) {}
  // A GPU's queue; the pool does what is left to the host, such as reading files.
  StreamRef(cuda::Stream& stream, ThreadPool& pool, WorkClock* clock = nullptr);

  const Device& device() const { return device_; }
  bool on_gpu() const { return cuda_ != nullptr; }
  cuda::Stream& cuda() const { return *cuda_; }
  ThreadPool& pool() const { return *pool_; }
  WorkClock* clock() const { return clock_; }
  StreamRef with(WorkClock* clock) const {
    StreamRef out = *this;
    out.clock_ = clock;
    return out;
  }

  // Waits until all work of the stream is done; on the CPU it always is.
  void synchronize() const;

 private:
  Device device_;
  cuda::Stream* cuda_ = nullptr;
  ThreadPool* pool_ = nullptr;
  WorkClock* clock_ = nullptr;
};

// Adds the time of a scope to one of a stream's clocks, if it has them.
class TimedWork {
 public:
  TimedWork(StreamRef stream, double WorkClock::*part)
      : clock_(stream.clock()), part_(part), start_(clock_ ? now() : 0) {}
  ~TimedWork() {
    if (clock_) clock_->*part_ += now() - start_;
  }
  TimedWork(const TimedWork&) = delete;
  TimedWork& operator=(const TimedWork&) = delete;

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  WorkClock* clock_;
  double WorkClock::*part_;
  double start_;
};

}  // namespace longtake
