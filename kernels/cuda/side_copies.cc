#include "kernels/cuda/side_copies.h"

#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/quiet.h"

namespace longtake::cuda {

namespace {

// Pinned, so that the copy engines reach it. Every call goes to the driver: who asks keeps blocks.
class PinnedMemory : public DeviceMemory {
 public:
  void* allocate(size_t bytes) override {
    const DeviceWide quiet;
    void* data = nullptr;
    const cudaError_t error = cudaHostAlloc(&data, bytes ? bytes : 1, cudaHostAllocPortable);
    if (error != cudaSuccess)
      fail(ExitCode::error, "pinned host memory: {} bytes could not be allocated: {} ({})", bytes,
           cudaGetErrorName(error), cudaGetErrorString(error));
    return data;
  }
  void free(void* data, size_t) override {
    const DeviceWide quiet;
    (void)cudaFreeHost(data);
  }
};

class SideStream : public SideCopies {
 public:
  explicit SideStream(Stream& work) : work_(work), memory_(std::make_shared<PinnedMemory>()) {
    const DeviceWide quiet;
    work.make_current();
    LT_CUDA(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking));
    worked_ = make_event();
  }
  ~SideStream() override {
    if (copies_) (void)cudaStreamSynchronize(copies_);
    const DeviceWide quiet;
    if (copies_) (void)cudaStreamDestroy(copies_);
    for (const cudaEvent_t event : marks_) (void)cudaEventDestroy(event);
    if (worked_) (void)cudaEventDestroy(worked_);
  }

  std::shared_ptr<DeviceMemory> host_memory() override { return memory_; }
  void copy(const void* from, void* to, size_t bytes) override {
    LT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, copies_));
  }
  // A wait is for what the event holds at this call: it can be recorded again at once.
  void wait_for_work() override {
    LT_CUDA(cudaEventRecord(worked_, work_.handle()));
    LT_CUDA(cudaStreamWaitEvent(copies_, worked_, 0));
  }
  void mark(int index) override {
    LT_CHECK(index >= 0, "no mark {}", index);
    while (marks_.size() <= static_cast<size_t>(index)) marks_.push_back(make_event());
    LT_CUDA(cudaEventRecord(marks_[static_cast<size_t>(index)], copies_));
  }
  void hold_work(int index) override {
    LT_CUDA(cudaStreamWaitEvent(work_.handle(), marks_.at(static_cast<size_t>(index)), 0));
  }
  void finish() override { LT_CUDA(cudaStreamSynchronize(copies_)); }

 private:
  static cudaEvent_t make_event() {
    cudaEvent_t event = nullptr;
    LT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }

  Stream& work_;
  std::shared_ptr<PinnedMemory> memory_;
  cudaStream_t copies_ = nullptr;
  cudaEvent_t worked_ = nullptr;
  std::vector<cudaEvent_t> marks_;
};

}  // namespace

std::unique_ptr<SideCopies> make_side_copies(Stream& work) {
  return std::make_unique<SideStream>(work);
}

}  // namespace longtake::cuda
