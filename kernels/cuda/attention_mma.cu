// Attention by mma.sync m16n8k16 (FlashAttention-2's schedule), compute 8.0 and later. A block has
// 128 queries of one head, 16 a warp; keys come in units of 64 over all segments, double buffered.
// Rows in shared memory are 16 bytes longer than their data: eight neighbours lie in all banks.
#include <cuda_bf16.h>

#include "kernels/cuda/attention_params.h"
#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/check.h"

namespace longtake::cuda {

namespace {

constexpr int kThreads = 256, kQueries = 128, kKeys = kAttentionUnit;

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
// 16 bytes, or zeros when `bytes` is 0.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
// c[0..3] += a b
__device__ __forceinline__ void multiply(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Shared memory: keys of two units, then values of two units; at first queries lie where the
// values will. kDim: head_dim rounded up.
template <int kDim>
struct Layout {
  static constexpr int kPitch = 2 * (kDim + 8);  // bytes
  static constexpr int kUnitBytes = kKeys * kPitch;
  static constexpr int kBytes = 4 * kUnitBytes;
  __device__ static uint32_t keys(uint32_t base, int stage) { return base + stage * kUnitBytes; }
  __device__ static uint32_t values(uint32_t base, int stage) {
    return base + (2 + stage) * kUnitBytes;
  }
};

// One row of a matrix by four threads (part 0 to 3); zeros beyond head_dim or without a row.
template <int kDim>
__device__ __forceinline__ void copy_row(uint32_t to, const __nv_bfloat16* row, bool exists,
                                         int head_dim, int part) {
#pragma unroll
  for (int i = 0; i < kDim / 32; ++i) {
    const int dim = (i * 4 + part) * 8;
    const bool there = exists && dim < head_dim;
    copy_async(to + 2 * dim, there ? row + dim : row, there ? 16 : 0);
  }
}

template <int kDim>
__device__ __forceinline__ void copy_unit(const AttentionParams& p, int head, int key0,
                                          uint32_t keys, uint32_t values) {
  const int i = threadIdx.x / 4, part = threadIdx.x % 4, all = p.segments.keys();
  const int key = min(key0 + i, all - 1);
  const int s = p.segments.of(key);
  const AttentionParams::Segment& segment = p.segment[s];
  const int64_t row = key - p.segments.begin[s], column = static_cast<int64_t>(head) * p.head_dim;
  const auto* k = static_cast<const __nv_bfloat16*>(segment.k) + row * segment.k_stride + column;
  const auto* v = static_cast<const __nv_bfloat16*>(segment.v) + row * segment.v_stride + column;
  copy_row<kDim>(keys + i * Layout<kDim>::kPitch, k, key0 + i < all, p.head_dim, part);
  copy_row<kDim>(values + i * Layout<kDim>::kPitch, v, key0 + i < all, p.head_dim, part);
}

// Queries of this warp, as A operands of kDim / 16 steps.
template <int kDim>
__device__ __forceinline__ void load_queries(const AttentionParams& p, int head, int query0,
                                             uint32_t base, uint32_t (&q)[kDim / 16][4]) {
  const auto* all =
      static_cast<const __nv_bfloat16*>(p.q) + static_cast<int64_t>(head) * p.head_dim;
  const uint32_t memory = Layout<kDim>::values(base, 0);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = half * 64 + threadIdx.x / 4;
    const int64_t query = min(query0 + i, p.queries - 1);
    copy_row<kDim>(memory + i * Layout<kDim>::kPitch, all + query * p.q_stride,
                   query0 + i < p.queries, p.head_dim, threadIdx.x % 4);
  }
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  const int lane = threadIdx.x % 32, matrix = lane / 8;
  const int row = threadIdx.x / 32 * 16 + matrix % 2 * 8 + lane % 8;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step)
    load_matrices(q[step], memory + row * Layout<kDim>::kPitch + 2 * (step * 16 + matrix / 2 * 8));
  __syncthreads();
}

// s = q k^T of 16 queries and 64 keys.
template <int kDim>
__device__ __forceinline__ void multiply_keys(const uint32_t (&q)[kDim / 16][4], uint32_t keys,
                                              float (&s)[kKeys / 2]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8;
  const uint32_t address =
      keys + (matrix / 2 * 8 + lane % 8) * Layout<kDim>::kPitch + 2 * (matrix % 2 * 8);
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) s[i] = 0;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
#pragma unroll
    for (int pair = 0; pair < kKeys / 16; ++pair) {
      uint32_t k[4];
      load_matrices(k, address + pair * 16 * Layout<kDim>::kPitch + 2 * step * 16);
      multiply(s + 8 * pair, q[step], k[0], k[1]);
      multiply(s + 8 * pair + 4, q[step], k[2], k[3]);
    }
  }
}

// acc += w v of 16 queries and 64 keys.
template <int kDim>
__device__ __forceinline__ void multiply_values(const uint32_t (&w)[kKeys / 4], uint32_t values,
                                                float (&acc)[kDim / 2]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8;
  const uint32_t address =
      values + (matrix % 2 * 8 + lane % 8) * Layout<kDim>::kPitch + 2 * (matrix / 2 * 8);
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
#pragma unroll
    for (int pair = 0; pair < kDim / 16; ++pair) {
      uint32_t v[4];
      load_transposed(v, address + step * 16 * Layout<kDim>::kPitch + 2 * pair * 16);
      multiply(acc + 8 * pair, w + 4 * step, v[0], v[1]);
      multiply(acc + 8 * pair + 4, w + 4 * step, v[2], v[3]);
    }
  }
}

// Weights of a unit. One that lies in several segments gets each key's own bias.
__device__ __forceinline__ void soften_unit(const AttentionParams& p, int key0, int quad,
                                            float (&s)[kKeys / 2], SoftmaxRows& rows,
                                            float (&decay)[2]) {
  const float scale = p.scale * kLog2E;
  const int valid = min(kKeys, p.segments.keys() - key0);
  const int first = p.segments.of(key0), last = p.segments.of(key0 + valid - 1);
  if (valid < kKeys) hide_from(s, valid, quad);
  if (first == last) return soften(s, scale, p.segment[first].logit_bias * kLog2E, rows, decay);
#pragma unroll
  for (int i = 0; i < kKeys / 2; i += 4) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int key = min(key0 + 2 * i + 2 * quad + e, key0 + valid - 1);
      const float bias = p.segment[p.segments.of(key)].logit_bias * kLog2E;
      s[i + e] = fmaf(s[i + e], scale, bias);
      s[i + 2 + e] = fmaf(s[i + 2 + e], scale, bias);
    }
  }
  soften(s, 1.0f, 0.0f, rows, decay);
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, 1)
    attention_mma(const __grid_constant__ AttentionParams p) {
  extern __shared__ __align__(16) char memory[];
  const uint32_t base = shared_address(memory);
  const int query_tiles = tiles_of(p.queries), keys = p.segments.keys();
  const int block = static_cast<int>(blockIdx.x);
  const int number = p.row_order ? p.row_order[block] : block;
  const int head = number / query_tiles, query0 = number % query_tiles * kQueries;
  const TileRow row = tile_row(p.tile_offsets, p.tile_keys, number, tiles_of(keys));
  const int units = units_of(row, keys), quad = threadIdx.x % 4;

  uint32_t q[kDim / 16][4];
  load_queries<kDim>(p, head, query0, base, q);
  SoftmaxRows rows;
  float acc[kDim / 2];
#pragma unroll
  for (int i = 0; i < kDim / 2; ++i) acc[i] = 0;

  using L = Layout<kDim>;
  if (units > 0) copy_unit<kDim>(p, head, unit_begin(row, 0), L::keys(base, 0), L::values(base, 0));
  commit_copies();
  for (int unit = 0; unit < units; ++unit) {
    const int stage = unit % 2;
    if (unit + 1 < units)
      copy_unit<kDim>(p, head, unit_begin(row, unit + 1), L::keys(base, 1 - stage),
                      L::values(base, 1 - stage));
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    float s[kKeys / 2], decay[2];
    uint32_t w[kKeys / 4];
    multiply_keys<kDim>(q, L::keys(base, stage), s);
    soften_unit(p, unit_begin(row, unit), quad, s, rows, decay);
    decay_rows(acc, decay);
    pack_weights(s, w);
    multiply_values<kDim>(w, L::values(base, stage), acc);
    __syncthreads();
  }
  auto* out = static_cast<__nv_bfloat16*>(p.out) + static_cast<int64_t>(head) * p.head_dim;
  store_rows(acc, rows, query0 + static_cast<int>(threadIdx.x) / 32 * 16 + threadIdx.x % 32 / 4,
             p.queries, p.head_dim, quad, out, p.out_stride,
             p.lse ? p.lse + head * p.lse_stride : nullptr);
}

template <int kDim>
void launch(const AttentionParams& p, cudaStream_t stream) {
  constexpr int kBytes = Layout<kDim>::kBytes;
  LT_CUDA(cudaFuncSetAttribute(attention_mma<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               kBytes));
  const auto blocks = static_cast<unsigned>(p.heads * tiles_of(p.queries));
  attention_mma<kDim><<<blocks, kThreads, kBytes, stream>>>(p);
  LT_CUDA(cudaGetLastError());
}

}  // namespace

void launch_attention_mma(const AttentionParams& p, CUstream_st* stream) {
  if (p.head_dim <= 32) return launch<32>(p, stream);
  if (p.head_dim <= 64) return launch<64>(p, stream);
  if (p.head_dim <= 96) return launch<96>(p, stream);
  launch<128>(p, stream);
}

}  // namespace longtake::cuda
