// Attention on the ordinary arithmetic units: any head size, f32 arithmetic. 256 threads do 64
// queries of one head against 64 keys at a time; a thread has 4 queries x 4 keys of the logits and
// 4 queries x 4 kGroups dims of the result in registers.
//
// Nothing here but threadIdx, blockIdx, __syncthreads and __shfl_xor_sync is special to a GPU.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_params.h"

namespace longtake::cuda::plain {

constexpr int kThreads = 256, kRows = 64, kKeys = kAttentionUnit;
constexpr int kDims = 32;          // of q and k that are in shared memory at a time
constexpr int kValues = 16;        // keys whose values are
constexpr int kPitch = kRows + 4;  // no bank conflicts when dims are transposed
constexpr float kUnseen = -1e30f;  // logits below are not seen

struct Half {
  uint16_t bits;
};
struct alignas(16) Four {
  float x[4];
};

__device__ inline float load(const float* p) {
  return *p;
}
__device__ inline float load(const Half* p) {
  return std::bit_cast<float>(static_cast<uint32_t>(p->bits) << 16);
}
// Nearest even; NaN stays NaN.
__device__ inline uint16_t half_bits(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
__device__ inline void store(float* p, float x) {
  *p = x;
}
__device__ inline void store(Half* p, float x) {
  p->bits = half_bits(x);
}
__device__ inline float probability(float x, const float*) {
  return x;
}
__device__ inline float probability(float x, const Half*) {
  return std::bit_cast<float>(static_cast<uint32_t>(half_bits(x)) << 16);
}

template <class T, int kGroups>
struct Shared {
  alignas(16) float q[kDims * kPitch];          // [dim][query]
  alignas(16) float k[kDims * kPitch];          // [dim][key]
  alignas(16) float p[kKeys * kRows];           // [key][query], groups of 4 queries swizzled
  alignas(16) float v[kValues * kGroups * 64];  // [key][dim]
  const T* q_row[kRows];                        // null: no such row
  const T* k_row[kKeys];
  const T* v_row[kKeys];
  float key_bias[kKeys];
};

// Dims [begin, begin + 32) of 64 rows, transposed. A warp takes 4 rows x 8 dims: whole sectors of
// memory, all banks.
template <class T>
__device__ inline void stage(const T* const* rows, int begin, int head_dim, float* chunk) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int unit = i * 8 + warp;
    const int row = unit % 16 * 4 + lane / 8, dim = unit / 16 * 8 + lane % 8;
    const T* source = rows[row];
    chunk[dim * kPitch + row] =
        source && begin + dim < head_dim ? load(source + begin + dim) : 0.0f;
  }
}

// Values of keys [begin, begin + 16) of the 64, all dims, zeros beyond head_dim.
template <class T, int kGroups>
__device__ inline void stage_values(const T* const* rows, int begin, int head_dim, float* v) {
  constexpr int kWidth = kGroups * 64;
  for (int i = threadIdx.x; i < kValues * kWidth; i += kThreads) {
    const T* source = rows[begin + i / kWidth];
    const int dim = i % kWidth;
    v[i] = source && dim < head_dim ? load(source + dim) : 0.0f;
  }
}

__device__ inline void multiply_chunk(const float* q, const float* k, int ty, int tx,
                                      float (&s)[4][4]) {
#pragma unroll 8
  for (int dim = 0; dim < kDims; ++dim) {
    const Four a = *reinterpret_cast<const Four*>(q + dim * kPitch + ty * 4);
    const Four b = *reinterpret_cast<const Four*>(k + dim * kPitch + tx * 4);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) s[i][j] = fmaf(a.x[i], b.x[j], s[i][j]);
  }
}

// Where the 4 queries of group `ty` lie in row `key` of p.
__device__ inline int p_index(int key, int ty) {
  return key * kRows + (ty ^ (key / 4 % 8)) * 4;
}

template <int kGroups>
__device__ inline void multiply_values(const float* p, const float* v, int begin, int ty, int tx,
                                       float (&acc)[4][kGroups][4]) {
#pragma unroll 4
  for (int key = 0; key < kValues; ++key) {
    const Four w = *reinterpret_cast<const Four*>(p + p_index(begin + key, ty));
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const Four x = *reinterpret_cast<const Four*>(v + key * kGroups * 64 + (g * 16 + tx) * 4);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][g][e] = fmaf(w.x[i], x.x[e], acc[i][g][e]);
    }
  }
}

// The rows' pointers of the next 64 keys.
template <class T, int kGroups>
__device__ inline void place_keys(const AttentionParams& p, int head, int key0,
                                  Shared<T, kGroups>& shared) {
  const int i = threadIdx.x;
  if (i >= kKeys) return;
  const int key = key0 + i;
  if (key >= p.segments.keys()) {
    shared.k_row[i] = shared.v_row[i] = nullptr;
    shared.key_bias[i] = -INFINITY;
    return;
  }
  const int s = p.segments.of(key);
  const AttentionParams::Segment& segment = p.segment[s];
  const int64_t row = key - p.segments.begin[s], column = static_cast<int64_t>(head) * p.head_dim;
  shared.k_row[i] = static_cast<const T*>(segment.k) + row * segment.k_stride + column;
  shared.v_row[i] = static_cast<const T*>(segment.v) + row * segment.v_stride + column;
  shared.key_bias[i] = segment.logit_bias;
}

// Logits to weights exp(logit - top); s is [query][key] of this thread. The 16 threads of a query
// group are neighbours in a warp.
template <class T>
__device__ inline void soften(const AttentionParams& p, int head, int query, int key0, int tx,
                              const float* key_bias, float (&s)[4][4], float (&top)[4],
                              float (&sum)[4], float (&decay)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float most = top[i];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int key = key0 + tx * 4 + j;
      s[i][j] = fmaf(s[i][j], p.scale, key_bias[tx * 4 + j]);
      if (p.bias && query + i < p.queries && key < p.segments.keys())
        s[i][j] += p.bias[head * p.bias_stride +
                          static_cast<int64_t>(query + i) * p.segments.keys() + key];
      most = fmaxf(most, s[i][j]);
    }
#pragma unroll
    for (int step = 8; step > 0; step /= 2)
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    decay[i] = expf(top[i] - most);
    float part = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      s[i][j] = expf(s[i][j] - most);
      part += s[i][j];
      s[i][j] = probability(s[i][j], static_cast<const T*>(nullptr));
    }
    top[i] = most;
    sum[i] = fmaf(sum[i], decay[i], part);
  }
}

template <class T, int kGroups>
__device__ inline void finish(const AttentionParams& p, int head, int query, int tx,
                              const float (&top)[4], float (&sum)[4],
                              const float (&acc)[4][kGroups][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], step);
    if (query + i >= p.queries) continue;
    T* out = static_cast<T*>(p.out) + (query + i) * p.out_stride +
             static_cast<int64_t>(head) * p.head_dim;
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int dim = (g * 16 + tx) * 4 + e;
        if (dim < p.head_dim) store(out + dim, sum[i] == 0 ? 0.0f : acc[i][g][e] / sum[i]);
      }
    if (p.lse && tx == 0)
      p.lse[head * p.lse_stride + query + i] = sum[i] == 0 ? -INFINITY : top[i] + logf(sum[i]);
  }
}

// Block (query tile of 64, head).
template <class T, int kGroups>
__device__ inline void attention(const AttentionParams& p, Shared<T, kGroups>& shared) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, head = blockIdx.y;
  const int query0 = static_cast<int>(blockIdx.x) * kRows, query = query0 + ty * 4;
  const int keys = p.segments.keys();
  const TileRow row =
      tile_row(p.tile_offsets, p.tile_keys, head * tiles_of(p.queries) + query0 / kAttentionTile,
               tiles_of(keys));
  if (threadIdx.x < kRows) {
    const int64_t at = query0 + static_cast<int>(threadIdx.x);
    shared.q_row[threadIdx.x] = at >= p.queries ? nullptr
                                                : static_cast<const T*>(p.q) + at * p.q_stride +
                                                      static_cast<int64_t>(head) * p.head_dim;
  }
  float top[4], sum[4], acc[4][kGroups][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    top[i] = kUnseen;
    sum[i] = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[i][g][e] = 0;
  }

  const int units = units_of(row, keys);
  for (int unit = 0; unit < units; ++unit) {
    const int key0 = unit_begin(row, unit);
    __syncthreads();
    place_keys(p, head, key0, shared);
    float s[4][4] = {}, decay[4];
    for (int dim = 0; dim < p.head_dim; dim += kDims) {
      __syncthreads();
      stage(shared.q_row, dim, p.head_dim, shared.q);
      stage(shared.k_row, dim, p.head_dim, shared.k);
      __syncthreads();
      multiply_chunk(shared.q, shared.k, ty, tx, s);
    }
    soften<T>(p, head, query, key0, tx, shared.key_bias, s, top, sum, decay);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      *reinterpret_cast<Four*>(shared.p + p_index(tx * 4 + j, ty)) =
          Four{{s[0][j], s[1][j], s[2][j], s[3][j]}};
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int g = 0; g < kGroups; ++g)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][g][e] *= decay[i];
    for (int begin = 0; begin < kKeys; begin += kValues) {
      __syncthreads();
      stage_values<T, kGroups>(shared.v_row, begin, p.head_dim, shared.v);
      __syncthreads();
      multiply_values<kGroups>(shared.p, shared.v, begin, ty, tx, acc);
    }
  }
  finish<T, kGroups>(p, head, query, tx, top, sum, acc);
}

}  // namespace longtake::cuda::plain
