// The queue that an operator's work goes to: last parameter of every operator, no default. On the
// CPU it is a thread pool and work is done when the call returns.
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

class StreamRef {
 public:
  explicit StreamRef(ThreadPool& pool, WorkClock* clock = nullptr) : pool_(&pool), clock_(clock) {}

  Device device() const { return device_; }
  ThreadPool& pool() const { return *pool_; }
  WorkClock* clock() const { return clock_; }

 private:
  Device device_;
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
