// A 16 x 16 tile of D per thread block, k in steps of 16, one sum per thread in ascending order.
#include <cuda_bf16.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/gemm_plain.h"

namespace longtake::cuda {

namespace {

constexpr int kTile = 16;

__device__ float to_float(float x) {
  return x;
}
__device__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ void store(float* to, float x) {
  *to = x;
}
__device__ void store(__nv_bfloat16* to, float x) {
  *to = __float2bfloat16_rn(x);
}

__device__ float gelu(float x) {
  const float z = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  // 1 + tanh(z) = 2 / (1 + e^(-2 z)), exact to a few units also where it is near 0.
  return x / (1.0f + expf(-2.0f * z));
}

template <class In, class Out>
__global__ void plain_gemm_kernel(GemmArgs g) {
  __shared__ float a_tile[kTile][kTile + 1], w_tile[kTile][kTile + 1];
  const int64_t row = int64_t{blockIdx.x} * kTile + threadIdx.y;
  const int64_t first_column = int64_t{blockIdx.y} * kTile;
  const int64_t column = first_column + threadIdx.x, w_row = first_column + threadIdx.y;
  const In* a = static_cast<const In*>(g.a) + row * g.lda;
  const In* w = static_cast<const In*>(g.w) + w_row * g.ldw;
  float sum = 0;
  for (int64_t k0 = 0; k0 < g.k; k0 += kTile) {
    const int64_t k = k0 + threadIdx.x;
    a_tile[threadIdx.y][threadIdx.x] = row < g.m && k < g.k ? to_float(a[k]) : 0.0f;
    w_tile[threadIdx.y][threadIdx.x] = w_row < g.n && k < g.k ? to_float(w[k]) : 0.0f;
    __syncthreads();
    for (int i = 0; i < kTile; ++i)
      if (k0 + i < g.k) sum = fmaf(a_tile[threadIdx.y][i], w_tile[threadIdx.x][i], sum);
    __syncthreads();
  }
  if (row >= g.m || column >= g.n) return;
  Out* d = static_cast<Out*>(g.d) + row * g.ldd + column;
  if (g.accumulate) sum += to_float(*d);
  if (g.epilogue != GemmArgs::Epilogue::none)
    sum += to_float(static_cast<const Out*>(g.bias)[column]);
  if (g.epilogue == GemmArgs::Epilogue::bias_gelu) sum = gelu(sum);
  store(d, sum);
}

}  // namespace

void plain_gemm(const GemmArgs& g, CUstream_st* stream) {
  const dim3 grid(static_cast<unsigned>((g.m + kTile - 1) / kTile),
                  static_cast<unsigned>((g.n + kTile - 1) / kTile));
  const dim3 block(kTile, kTile);
  if (g.in == DType::f32 && g.out == DType::f32)
    plain_gemm_kernel<float, float><<<grid, block, 0, stream>>>(g);
  else if (g.in == DType::f32)
    plain_gemm_kernel<float, __nv_bfloat16><<<grid, block, 0, stream>>>(g);
  else if (g.out == DType::f32)
    plain_gemm_kernel<__nv_bfloat16, float><<<grid, block, 0, stream>>>(g);
  else
    plain_gemm_kernel<__nv_bfloat16, __nv_bfloat16><<<grid, block, 0, stream>>>(g);
  LT_CUDA(cudaGetLastError());
}

}  // namespace longtake::cuda
