// Attention by wgmma and TMA, compute 9.0. A block has 128 queries of one head: one warp group
// loads keys and values, two multiply, 64 queries each. Tiles of 128 keys; two are on their way or
// in use at a time.
//
// Pipelined schedule of a group (FlashAttention-3, arXiv 2407.08608): q k^T of tile i is issued
// before w v of tile i - 1, so that the second runs under the softmax of tile i; and the groups
// take turns in issuing, so that one's softmax runs under the other's products. The simple schedule
// waits for every product; it does the same arithmetic in the same order.
#include <cuda_bf16.h>

#include "kernels/cuda/attention_hopper.h"
#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper.cuh"

namespace longtake::cuda {

namespace {

using namespace hopper;

constexpr int kThreads = 384, kStages = 2, kWarps = 8;  // warps that multiply
// Of a thread; 128 (40 + 2 * 232) are what 384 threads of 168 start with.
constexpr int kLoadRegisters = 40, kMultiplyRegisters = 232;
constexpr int kBlockBytes = kAttentionTile * 128;  // 128 rows x 64 columns

// What a tile's keys are; written by the thread that loads them, before it arrives at `full`.
struct TileInfo {
  int valid;
  float bias;
};

template <int kDim>
struct Shared {
  static constexpr int kTileBytes = kDim / 64 * kBlockBytes;
  alignas(1024) char q[kTileBytes];
  alignas(1024) char k[kStages][kTileBytes];
  alignas(1024) char v[kStages][kTileBytes];
  uint64_t q_full;
  uint64_t k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  TileInfo info[kStages];
};

__device__ __forceinline__ uint32_t address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// All columns of one head: kDim / 64 boxes.
template <int kDim>
__device__ __forceinline__ void load_tile(const char* to, const CUtensorMap* map, int head, int row,
                                          uint64_t& full) {
#pragma unroll
  for (int block = 0; block < kDim / 64; ++block)
    load_box(address(to) + block * kBlockBytes, map, head * kDim + block * 64, row, address(&full));
}

// One thread. The order is that of use: keys 0, keys 1, values 0, keys 2, values 1, ...
template <int kDim>
__device__ __forceinline__ void load_all(const AttentionParams& p, const HopperMaps& maps,
                                         const SegmentTiles& tiles, const TileRow& row, int head,
                                         int query0, Shared<kDim>& shared) {
  constexpr int kBytes = Shared<kDim>::kTileBytes;
  arrive_expecting(address(&shared.q_full), kBytes);
  load_tile<kDim>(shared.q, &maps.q, head, query0, shared.q_full);
  int tile = row.tile(0), values_segment = 0, values_row = 0;
  for (int i = 0; i <= row.count; ++i) {
    const int next = i + 1 < row.count ? row.tile(i + 1) : 0;  // read ahead of the wait
    SegmentTiles::Place place{0, 0, 0};
    if (i < row.count) {
      const int stage = i % kStages, parity = i / kStages % 2;
      place = tiles.at(tile);
      wait(address(&shared.k_empty[stage]), parity ^ 1);
      shared.info[stage] = {place.valid, p.segment[place.segment].logit_bias * kLog2E};
      arrive_expecting(address(&shared.k_full[stage]), kBytes);
      load_tile<kDim>(shared.k[stage], &maps.k[place.segment], head, place.row,
                      shared.k_full[stage]);
    }
    if (i > 0) {
      const int stage = (i - 1) % kStages, parity = (i - 1) / kStages % 2;
      wait(address(&shared.v_empty[stage]), parity ^ 1);
      arrive_expecting(address(&shared.v_full[stage]), kBytes);
      load_tile<kDim>(shared.v[stage], &maps.v[values_segment], head, values_row,
                      shared.v_full[stage]);
    }
    values_segment = place.segment;
    values_row = place.row;
    tile = next;
  }
}

// s = q k^T; q: the group's 64 rows.
template <int kDim>
__device__ __forceinline__ void multiply_keys(float (&s)[64], uint32_t q, uint32_t k) {
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    const int offset = step / 4 * kBlockBytes + step % 4 * 32;
    multiply(s, operand(q + offset, 0), operand(k + offset, 0), step != 0);
  }
}

// acc += w v
template <int kDim>
__device__ __forceinline__ void multiply_values(float (&acc)[kDim / 2], const uint32_t (&w)[32],
                                                uint32_t v) {
#pragma unroll
  for (int step = 0; step < kAttentionTile / 16; ++step)
    multiply(acc, w + 4 * step, operand(v + step * 2048, kBlockBytes));
}

// One of the two groups that multiply; what its functions share.
template <int kDim>
struct Group {
  Shared<kDim>& shared;
  float scale;  // of logits, times log2(e)
  int index, quad;
  bool leads_warp;
  uint32_t q;
  SoftmaxRows rows = {};
  float s[64], acc[kDim / 2], decay[2];
  uint32_t w[32];

  __device__ __forceinline__ static int stage(int i) { return i % kStages; }
  __device__ __forceinline__ static int parity(int i) { return i / kStages % 2; }
  __device__ __forceinline__ TileInfo wait_keys(int i) {
    wait(address(&shared.k_full[stage(i)]), parity(i));
    return shared.info[stage(i)];
  }
  __device__ __forceinline__ void wait_values(int i) {
    wait(address(&shared.v_full[stage(i)]), parity(i));
  }
  // The whole warp has read before its first lane says so.
  __device__ __forceinline__ void free_keys(int i) {
    __syncwarp();
    if (leads_warp) arrive(address(&shared.k_empty[stage(i)]));
  }
  // Sums are never negative, but only the program knows: ptxas would move the wait that follows
  // ahead of the weights, and they would no longer run under the product.
  __device__ __forceinline__ void free_keys_after_weights(int i) {
    __syncwarp();
    if (leads_warp && !(rows.sum[0] + rows.sum[1] < 0)) arrive(address(&shared.k_empty[stage(i)]));
  }
  __device__ __forceinline__ void free_values(int i) {
    __syncwarp();
    if (leads_warp) arrive(address(&shared.v_empty[stage(i)]));
  }
  __device__ __forceinline__ void issue_keys(int i) {
    multiply_keys<kDim>(s, q, address(shared.k[stage(i)]));
    commit();
  }
  __device__ __forceinline__ void issue_values(int i) {
    multiply_values<kDim>(acc, w, address(shared.v[stage(i)]));
    commit();
  }
  __device__ __forceinline__ void weigh(const TileInfo& info) {
    if (info.valid < kAttentionTile) hide_from(s, info.valid, quad);
    soften(s, scale, info.bias, rows, decay);
  }

  __device__ __forceinline__ void run_simple(int count) {
    for (int i = 0; i < count; ++i) {
      const TileInfo info = wait_keys(i);
      fence_registers();
      issue_keys(i);
      wait_products<0>();
      keep(s);
      free_keys(i);
      weigh(info);
      decay_rows(acc, decay);
      pack_weights(s, w);
      wait_values(i);
      fence_registers();
      issue_values(i);
      wait_products<0>();
      keep(acc);
      keep(w);
      free_values(i);
    }
  }

  // Barrier 1 + g: it is the turn of group g to issue.
  __device__ __forceinline__ void run_pipelined(int count) {
    TileInfo info = wait_keys(0);
    fence_registers();
    issue_keys(0);
    wait_products<0>();
    keep(s);
    free_keys(0);
    weigh(info);
    pack_weights(s, w);
    if (index == 1 && count > 1) pair_arrive(1);
    for (int i = 1; i < count; ++i) {
      info = wait_keys(i);
      wait_values(i - 1);
      pair_sync(1 + index);
      fence_registers();
      issue_keys(i);
      issue_values(i - 1);
      // The last turn of the second group is followed by none.
      if (index == 0 || i + 1 < count) pair_arrive(2 - index);
      wait_products<1>();
      keep(s);
      weigh(info);
      free_keys_after_weights(i);
      wait_products<0>();
      keep(acc);
      keep(w);
      free_values(i - 1);
      decay_rows(acc, decay);
      pack_weights(s, w);
    }
    wait_values(count - 1);
    fence_registers();
    issue_values(count - 1);
    wait_products<0>();
    keep(acc);
    keep(w);
  }
};

template <int kDim>
__device__ __forceinline__ void init_barriers(Shared<kDim>& shared) {
  barrier_init(address(&shared.q_full), 1);
  for (int i = 0; i < kStages; ++i) {
    barrier_init(address(&shared.k_full[i]), 1);
    barrier_init(address(&shared.v_full[i]), 1);
    barrier_init(address(&shared.k_empty[i]), kWarps);
    barrier_init(address(&shared.v_empty[i]), kWarps);
  }
  barrier_init_fence();
}

template <int kDim, bool kSimple>
__device__ __forceinline__ void multiply_all(const AttentionParams& p, int count, int head,
                                             int query0, Shared<kDim>& shared) {
  const int index = static_cast<int>(threadIdx.x) / 128 - 1, lane = threadIdx.x % 32;
  Group<kDim> group{shared,   p.scale * kLog2E, index,
                    lane % 4, lane == 0,        address(shared.q) + index * 64 * 128};
#pragma unroll
  for (int i = 0; i < kDim / 2; ++i) group.acc[i] = 0;
  if (count > 0) {
    wait(address(&shared.q_full), 0);
    if constexpr (kSimple)
      group.run_simple(count);
    else
      group.run_pipelined(count);
  }
  const int query = query0 + index * 64 + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
  auto* out = static_cast<__nv_bfloat16*>(p.out) + static_cast<int64_t>(head) * kDim;
  store_rows(group.acc, group.rows, query, p.queries, kDim, lane % 4, out, p.out_stride,
             p.lse ? p.lse + head * p.lse_stride : nullptr);
}

template <int kDim, bool kSimple>
__global__ void __launch_bounds__(kThreads, 1)
    attention_hopper(const __grid_constant__ AttentionParams p,
                     const __grid_constant__ HopperMaps maps,
                     const __grid_constant__ SegmentTiles tiles) {
  extern __shared__ char memory[];
  auto& shared = *reinterpret_cast<Shared<kDim>*>(memory + (-address(memory) & 1023u));
  const int query_tiles = tiles_of(p.queries), block = static_cast<int>(blockIdx.x);
  const int number = p.row_order ? p.row_order[block] : block;
  const int head = number / query_tiles, query0 = number % query_tiles * kAttentionTile;
  const TileRow row = tile_row(p.tile_offsets, p.tile_keys, number, tiles.tiles());

  if (threadIdx.x == 0) {
    prefetch_map(&maps.q);
    prefetch_map(&maps.k[0]);
    prefetch_map(&maps.v[0]);
    init_barriers(shared);
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    fewer_registers<kLoadRegisters>();
    if (threadIdx.x == 0 && row.count > 0)
      load_all<kDim>(p, maps, tiles, row, head, query0, shared);
  } else {
    more_registers<kMultiplyRegisters>();
    multiply_all<kDim, kSimple>(p, row.count, head, query0, shared);
  }
}

template <int kDim, bool kSimple>
void launch(const AttentionParams& p, const HopperMaps& maps, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<kDim>)) + 1024;  // to align it
  LT_CUDA(cudaFuncSetAttribute(attention_hopper<kDim, kSimple>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  const auto blocks = static_cast<unsigned>(p.heads * tiles_of(p.queries));
  attention_hopper<kDim, kSimple>
      <<<blocks, kThreads, kBytes, stream>>>(p, maps, segment_tiles(p.segments));
  LT_CUDA(cudaGetLastError());
}

}  // namespace

void launch_attention_hopper(const AttentionParams& p, const HopperMaps& maps, bool simple,
                             CUstream_st* stream) {
  if (p.head_dim == 64)
    return simple ? launch<64, true>(p, maps, stream) : launch<64, false>(p, maps, stream);
  simple ? launch<128, true>(p, maps, stream) : launch<128, false>(p, maps, stream);
}

}  // namespace longtake::cuda
