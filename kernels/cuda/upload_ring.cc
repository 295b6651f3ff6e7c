#include "kernels/cuda/upload_ring.h"

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/quiet.h"

namespace longtake::cuda {

UploadRing::UploadRing() {
  const DeviceWide quiet;
  for (Slot& slot : slots_) {
    LT_CUDA(cudaMallocHost(&slot.data, kPieceBytes));
    LT_CUDA(cudaEventCreateWithFlags(&slot.sent, cudaEventDisableTiming));
  }
}

UploadRing::~UploadRing() {
  const DeviceWide quiet;
  for (Slot& slot : slots_) {
    if (slot.sent) {
      (void)cudaEventSynchronize(slot.sent);
      (void)cudaEventDestroy(slot.sent);
    }
    if (slot.data) (void)cudaFreeHost(slot.data);
  }
}

void UploadRing::upload(void* device, size_t bytes, const Fill& fill, CUstream_st* stream) {
  for (size_t from = 0; from < bytes; from += kPieceBytes) {
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kSlots;
    const size_t n = std::min(kPieceBytes, bytes - from);
    LT_CUDA(cudaEventSynchronize(slot.sent));
    fill(from, n, slot.data);
    LT_CUDA(cudaMemcpyAsync(static_cast<char*>(device) + from, slot.data, n, cudaMemcpyHostToDevice,
                            stream));
    LT_CUDA(cudaEventRecord(slot.sent, stream));
  }
}

}  // namespace longtake::cuda
