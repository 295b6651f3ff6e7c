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
// Adds the seconds of the GPU's work between two points of the stream to *to, at its next
// synchronize().
int begin_interval(Stream& stream);
void end_interval(Stream& stream, int begin, double* to);
}  // namespace cuda

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
  // A thread that uses a stream of a GPU which another thread made calls this first.
  void make_current() const;

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
      : to_(stream.clock() ? &(stream.clock()->*part) : nullptr),
        gpu_(stream.on_gpu() ? &stream.cuda() : nullptr) {
    if (!to_) return;
    if (gpu_)
      begin_ = cuda::begin_interval(*gpu_);
    else
      start_ = now();
  }
  ~TimedWork() {
    if (!to_) return;
    if (gpu_)
      cuda::end_interval(*gpu_, begin_, to_);
    else
      *to_ += now() - start_;
  }
  TimedWork(const TimedWork&) = delete;
  TimedWork& operator=(const TimedWork&) = delete;

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  double* to_;
  cuda::Stream* gpu_;
  int begin_ = 0;
  double start_ = 0;
};

}  // namespace longtake
