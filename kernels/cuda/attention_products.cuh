// Softmax of rows and a transposition. Every sum has one order: a thread's own elements, ascending,
// then lanes by halves, then warps ascending. Also compiled for the host.
#pragma once

#include "kernels/cuda/attention_products_start.h"
#include "kernels/cuda/chunk.cuh"

namespace longtake::cuda::products {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kTile = 32;          // rows and columns of a transposition's block
constexpr float kUnseen = -1e30f;  // logits below are not seen

// One block per row. A thread writes only elements that it alone reads: weights may lie where the
// logits do. All logits unseen: weights 0, lse -infinity. NaN of any logit makes all weights NaN.
template <class T>
__global__ void __launch_bounds__(kThreads) softmax_rows_kernel(SoftmaxRowsArgs a) {
  __shared__ float part[2][kWarps];
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const float* logits = a.logits + row * a.pitch;
  T* weights = static_cast<T*>(a.weights) + row * a.pitch;

  float top = -INFINITY;
  for (int64_t i = thread; i < a.keys; i += kThreads)
    top = fmaxf(top, __fmul_rn(a.scale, logits[i]));
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
  if (lane == 0) part[0][warp] = top;
  __syncthreads();
  for (int i = 0; i < kWarps; ++i) top = fmaxf(top, part[0][i]);

  const auto weight = [&](int64_t i) {
    const float logit = __fmul_rn(a.scale, logits[i]);
    return logit < kUnseen ? 0.0f : expf(__fsub_rn(logit, top));
  };
  float sum = 0;
  for (int64_t i = thread; i < a.keys; i += kThreads) sum = __fadd_rn(sum, weight(i));
  for (int step = 16; step > 0; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
  if (lane == 0) part[1][warp] = sum;
  __syncthreads();
  sum = part[1][0];
  for (int i = 1; i < kWarps; ++i) sum = __fadd_rn(sum, part[1][i]);

  const float factor = sum == 0 ? 0.0f : __fdiv_rn(1.0f, sum);
  for (int64_t i = thread; i < a.pitch; i += kThreads)
    narrow(i < a.keys ? __fmul_rn(weight(i), factor) : 0.0f, weights[i]);
  if (a.lse && thread == 0) a.lse[row] = sum == 0 ? -INFINITY : __fadd_rn(top, logf(sum));
}

// T: of the size of an element. One block per tile, the tiles of a row of y next to each other.
template <class T>
__global__ void __launch_bounds__(kThreads) transpose_kernel(TransposeArgs a, unsigned across) {
  __shared__ T tile[kTile][kTile + 1];
  const int64_t row = int64_t{blockIdx.x % across} * kTile;
  const int64_t column = int64_t{blockIdx.x / across} * kTile;
  const int x = static_cast<int>(threadIdx.x) % kTile,
            first = static_cast<int>(threadIdx.x) / kTile;
  const T* from = static_cast<const T*>(a.x);
  T* to = static_cast<T*>(a.y);
  for (int r = first; r < kTile; r += kWarps)
    tile[r][x] =
        row + r < a.rows && column + x < a.columns ? from[(row + r) * a.stride + column + x] : T{};
  __syncthreads();
  for (int c = first; c < kTile; c += kWarps)
    if (column + c < a.columns && row + x < a.pitch)
      to[(column + c) * a.pitch + row + x] = tile[x][c];
}

template <class Launch>
void launch_softmax(const SoftmaxRowsArgs& a, DType type, Launch launch) {
  const auto blocks = static_cast<unsigned>(a.rows);
  if (type == DType::f32)
    launch(softmax_rows_kernel<float>, blocks, kThreads, a);
  else
    launch(softmax_rows_kernel<bf16>, blocks, kThreads, a);
}

template <class Launch>
void launch_transpose(const TransposeArgs& a, DType type, Launch launch) {
  const auto across = static_cast<unsigned>((a.pitch + kTile - 1) / kTile);
  const auto down = static_cast<unsigned>((a.columns + kTile - 1) / kTile);
  if (type == DType::f32)
    launch(transpose_kernel<uint32_t>, across * down, kThreads, a, across);
  else
    launch(transpose_kernel<uint16_t>, across * down, kThreads, a, across);
}

}  // namespace longtake::cuda::products
