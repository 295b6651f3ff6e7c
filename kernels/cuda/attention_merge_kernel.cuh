// kernels/attention_merge.h: a thread makes kChunk neighbouring channels of one query and head. All
// threads of a head's row find the same weights; reading the parts takes longer than that.
#pragma once

#include "kernels/cuda/attention_merge_view.h"
#include "kernels/cuda/chunk.cuh"

namespace longtake::cuda {

struct PartWeights {
  float of[AttentionMergeView::kMostParts];  // w_i / sum w_i
  float lse;
};

static __device__ PartWeights weigh_parts(const AttentionMergeView& a, int64_t query,
                                          int64_t head) {
  PartWeights w;
  float top = -INFINITY, total = 0;
  for (int i = 0; i < a.parts; ++i) {
    const float l = a.part[i].lse[head * a.part[i].lse_stride + query];
    w.of[i] = l;
    if (l != -INFINITY) top = l <= top ? top : l;  // NaN stays
  }
  for (int i = 0; i < a.parts; ++i) {
    w.of[i] = w.of[i] == -INFINITY ? 0.0f : expf(__fsub_rn(w.of[i], top));
    total = __fadd_rn(total, w.of[i]);
  }
  for (int i = 0; i < a.parts; ++i) w.of[i] = total == 0 ? 0.0f : __fdiv_rn(w.of[i], total);
  w.lse = total == 0 ? -INFINITY : __fadd_rn(top, logf(total));
  return w;
}

// A part of weight 0 is not read: without keys its numbers may be anything.
template <class X, class Y, int kChunk>
__global__ void merge_attention_kernel(AttentionMergeView a) {
  const int64_t chunks = a.head_dim / kChunk, n = a.queries * a.heads * chunks;
  const int64_t i =
      int64_t{blockIdx.x} * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const int64_t query = i / (a.heads * chunks), row = i / chunks, head = row % a.heads;
  const int64_t column = head * a.head_dim + i % chunks * kChunk;
  const PartWeights w = weigh_parts(a, query, head);
  float sum[kChunk] = {};
  for (int p = 0; p < a.parts; ++p) {
    if (w.of[p] == 0) continue;
    float x[kChunk];
    load_chunk(static_cast<const X*>(a.part[p].out) + query * a.part[p].out_stride + column, x);
    LT_UNROLL
    for (int k = 0; k < kChunk; ++k) sum[k] = __fmaf_rn(x[k], w.of[p], sum[k]);
  }
  store_chunk(static_cast<Y*>(a.out) + query * a.out_stride + column, sum);
  if (a.lse && i % chunks == 0) a.lse[head * a.lse_stride + query] = w.lse;
}

// See norm_launch.cuh for `launch`.
template <class X, class Y, class Launch>
void launch_merge_of(const AttentionMergeView& a, Launch launch) {
  constexpr int kThreads = 256, kChunk = chunk_of<X, Y>();
  const auto fits = [&](const void* data, int64_t stride, size_t size) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
           static_cast<size_t>(stride) * size % 16 == 0;
  };
  bool whole = a.head_dim % kChunk == 0 && fits(a.out, a.out_stride, sizeof(Y));
  for (int i = 0; i < a.parts; ++i)
    whole = whole && fits(a.part[i].out, a.part[i].out_stride, sizeof(X));
  const int64_t n = a.queries * a.heads * (whole ? a.head_dim / kChunk : a.head_dim);
  const auto blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
  if (whole)
    launch(merge_attention_kernel<X, Y, kChunk>, blocks, kThreads, a);
  else
    launch(merge_attention_kernel<X, Y, 1>, blocks, kThreads, a);
}

template <class Launch>
void launch_merge(const AttentionMergeView& a, Launch launch) {
  const bool wide = a.out_type == DType::f32;
  if (a.part_type == DType::f32)
    wide ? launch_merge_of<float, float>(a, launch) : launch_merge_of<float, bf16>(a, launch);
  else
    wide ? launch_merge_of<bf16, float>(a, launch) : launch_merge_of<bf16, bf16>(a, launch);
}

}  // namespace longtake::cuda
