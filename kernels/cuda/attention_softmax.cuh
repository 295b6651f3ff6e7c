// Online softmax on the accumulators of m16n8 tensor-core tiles: thread `lane` of a warp has, of
// the 16 queries, numbers lane / 4 (h = 0) and lane / 4 + 8 (h = 1), and of each 8 keys
// 2 (lane % 4) and the next: s[4 * tile + 2 * h + e]. Logits are in units of log2: 2^x is one
// instruction.
#pragma once

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>

namespace longtake::cuda {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
// A running maximum starts here: weights of unseen keys (-infinity) become 0 without a case of
// their own.
constexpr float kUnseenTop = -1e30f;

struct SoftmaxRows {
  float top[2] = {kUnseenTop, kUnseenTop};
  float sum[2] = {0, 0};  // of this thread's keys
};

// Relative error 2^-22; -infinity gives 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Maximum over the four threads of a query.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Logits scale * s + bias become weights 2^(logit - top); what was summed up before is worth
// `decay` of itself now. scale > 0, so that the largest s is the largest logit.
template <int kCount>
__device__ __forceinline__ void soften(float (&s)[kCount], float scale, float bias,
                                       SoftmaxRows& rows, float (&decay)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most[2] = {s[2 * h], s[2 * h + 1]};
#pragma unroll
    for (int i = 4; i < kCount; i += 4) {
      most[0] = fmaxf(most[0], s[i + 2 * h]);
      most[1] = fmaxf(most[1], s[i + 2 * h + 1]);
    }
    const float top = fmaxf(rows.top[h], fmaf(quad_max(fmaxf(most[0], most[1])), scale, bias));
    decay[h] = exp2_fast(rows.top[h] - top);
    rows.top[h] = top;
    const float shift = bias - top;
    float part[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float w = exp2_fast(fmaf(s[i + 2 * h + e], scale, shift));
        s[i + 2 * h + e] = w;
        part[e] += w;
      }
    }
    rows.sum[h] = fmaf(rows.sum[h], decay[h], part[0] + part[1]);
  }
}

// Hides the keys at `valid` and beyond; `quad` is lane % 4.
template <int kCount>
__device__ __forceinline__ void hide_from(float (&s)[kCount], int valid, int quad) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (2 * i + 2 * quad + e % 2 >= valid) s[i + e] = -INFINITY;
}

// Nothing to do, to the last bit, when no maximum of the warp's 16 queries grew: most of the time.
template <int kCount>
__device__ __forceinline__ void decay_rows(float (&acc)[kCount], const float (&decay)[2]) {
  if (!__any_sync(0xffffffffu, decay[0] != 1.0f || decay[1] != 1.0f)) return;
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    acc[i] *= decay[0];
    acc[i + 1] *= decay[0];
    acc[i + 2] *= decay[1];
    acc[i + 3] *= decay[1];
  }
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Weights as the A operand of the second product: w[4 * step ..] for 16 keys.
template <int kCount>
__device__ __forceinline__ void pack_weights(const float (&s)[kCount], uint32_t (&w)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) w[i] = pack(s[2 * i], s[2 * i + 1]);
}

// Divides by the sums and stores 16 queries x 2 kCount dims; `query` is that of h = 0, dims at
// head_dim and beyond are left out. head_dim is even, and so are strides.
template <int kCount>
__device__ __forceinline__ void store_rows(const float (&acc)[kCount], SoftmaxRows& rows, int query,
                                           int queries, int head_dim, int quad, __nv_bfloat16* out,
                                           int64_t out_stride, float* lse) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float sum = quad_sum(rows.sum[h]);
    const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
    const int at = query + 8 * h;
    if (at >= queries) continue;
    __nv_bfloat16* line = out + at * out_stride;
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const int dim = 2 * i + 2 * quad;
      if (dim < head_dim)
        *reinterpret_cast<uint32_t*>(line + dim) =
            pack(acc[i + 2 * h] * inverse, acc[i + 2 * h + 1] * inverse);
    }
    if (lse && quad == 0) lse[at] = sum == 0 ? -INFINITY : fmaf(rows.top[h], kLn2, logf(sum));
  }
}

}  // namespace longtake::cuda
