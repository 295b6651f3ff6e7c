// A GPU's event without timing, its own or another process's.
#pragma once

#include "kernels/cuda/check.h"

namespace longtake {

class GpuEvent {
 public:
  enum class Use { here, between_processes };

  explicit GpuEvent(Use use = Use::here) {
    const unsigned flags =
        use == Use::here ? cudaEventDisableTiming : cudaEventDisableTiming | cudaEventInterprocess;
    LT_CUDA(cudaEventCreateWithFlags(&event_, flags));
  }
  explicit GpuEvent(const cudaIpcEventHandle_t& of_another) {
    LT_CUDA(cudaIpcOpenEventHandle(&event_, of_another));
  }
  ~GpuEvent() {
    if (event_) (void)cudaEventDestroy(event_);
  }
  GpuEvent(GpuEvent&& other) noexcept : event_(other.event_) { other.event_ = nullptr; }
  GpuEvent& operator=(GpuEvent&&) = delete;

  cudaIpcEventHandle_t for_another() const {
    cudaIpcEventHandle_t out;
    LT_CUDA(cudaIpcGetEventHandle(&out, event_));
    return out;
  }
  void record(cudaStream_t stream) { LT_CUDA(cudaEventRecord(event_, stream)); }
  // Later work of `stream` waits for what was recorded.
  void hold(cudaStream_t stream) { LT_CUDA(cudaStreamWaitEvent(stream, event_, 0)); }
  bool done() const {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();  // it would look like the error of a launch
      return false;
    }
    LT_CUDA(state);
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace longtake
