#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/check.h"

namespace longtake::cuda {

namespace {

template <class T, int kGroups>
__global__ void __launch_bounds__(plain::kThreads, 1)
    attention_plain(const __grid_constant__ AttentionParams p) {
  extern __shared__ char memory[];
  plain::attention<T, kGroups>(p, *reinterpret_cast<plain::Shared<T, kGroups>*>(memory));
}

template <class T, int kGroups>
void launch(const AttentionParams& p, cudaStream_t stream) {
  constexpr size_t kBytes = sizeof(plain::Shared<T, kGroups>);
  LT_CUDA(cudaFuncSetAttribute(attention_plain<T, kGroups>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  const dim3 grid(static_cast<unsigned>(tiles_of(p.queries, plain::kRows)),
                  static_cast<unsigned>(p.heads));
  attention_plain<T, kGroups><<<grid, plain::kThreads, kBytes, stream>>>(p);
  LT_CUDA(cudaGetLastError());
}

template <class T>
void launch_for(const AttentionParams& p, cudaStream_t stream) {
  if (p.head_dim <= 64) return launch<T, 1>(p, stream);
  if (p.head_dim <= 128) return launch<T, 2>(p, stream);
  if (p.head_dim <= 256) return launch<T, 4>(p, stream);
  if (p.head_dim <= 384) return launch<T, 6>(p, stream);
  launch<T, 8>(p, stream);
}

}  // namespace

void launch_attention_plain(const AttentionParams& p, bool half, CUstream_st* stream) {
  if (half)
    launch_for<plain::Half>(p, stream);
  else
    launch_for<float>(p, stream);
}

}  // namespace longtake::cuda
