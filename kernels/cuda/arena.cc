#include "kernels/cuda/arena.h"

#include "kernels/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/quiet.h"

namespace longtake::cuda {

// An eighth of waste at most.
size_t Arena::rounded(size_t bytes) {
  constexpr size_t kSmallest = 512;
  size_t step = kSmallest;
  while (step * 16 < bytes) step *= 2;
  return (std::max(bytes, kSmallest) + step - 1) / step * step;
}

Arena::~Arena() {
  const DeviceWide quiet;
  // At the end of the process the driver may be gone already: nothing to do about an error.
  for (const auto& [bytes, data] : free_) (void)cudaFree(data);
  for (const auto& [data, bytes] : used_) (void)cudaFree(data);
}

void* Arena::allocate(size_t bytes) {
  const size_t need = rounded(bytes);
  const std::lock_guard lock(mutex_);
  void* data = nullptr;
  size_t size = need;
  const auto found = free_.lower_bound(need);
  if (found != free_.end() && found->first <= need + need / 4) {
    size = found->first;
    data = found->second;
    free_.erase(found);
  } else {
    const DeviceWide quiet;
    LT_CUDA(cudaSetDevice(device_));
    cudaError_t error = cudaMalloc(&data, need);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      trim();
      error = cudaMalloc(&data, need);
    }
    if (error != cudaSuccess) {
      size_t free_bytes = 0, total_bytes = 0;
      (void)cudaMemGetInfo(&free_bytes, &total_bytes);
      fail(ExitCode::error,
           "GPU {} ({}): out of memory: {} bytes could not be allocated, {} of {} are free, {} are "
           "in use here",
           device_, device_name_, need, free_bytes, total_bytes, in_use_);
    }
    held_ += need;
  }
  used_.emplace(data, size);
  in_use_ += size;
  peak_ = std::max(peak_, in_use_);
  return data;
}

void Arena::free(void* data, size_t) {
  const std::lock_guard lock(mutex_);
  const auto found = used_.find(data);
  if (found == used_.end()) return;
  in_use_ -= found->second;
  free_.emplace(found->second, data);
  used_.erase(found);
}

// With the mutex and the device held. cudaFree waits for the work that is under way.
void Arena::trim() {
  for (const auto& [bytes, data] : free_) {
    LT_CUDA(cudaFree(data));
    held_ -= bytes;
  }
  free_.clear();
}

size_t Arena::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

size_t Arena::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

}  // namespace longtake::cuda
