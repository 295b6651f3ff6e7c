// What the attention kernels get: pointers and strides, checked by attention.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention_tiles.h"

struct CUstream_st;

namespace longtake::cuda {

struct AttentionParams {
  const void* q = nullptr;                  // [queries, heads, head_dim]
  void* out = nullptr;                      // [queries, heads, head_dim]
  float* lse = nullptr;                     // [heads, queries] or null
  const float* bias = nullptr;              // [heads, queries, keys] or null
  int64_t q_stride = 0, out_stride = 0;     // elements between queries
  int64_t lse_stride = 0, bias_stride = 0;  // elements between heads
  int queries = 0, heads = 0, head_dim = 0;
  float scale = 1;

  SegmentBounds segments;
  struct Segment {
    const void* k = nullptr;  // [rows, heads, head_dim]
    const void* v = nullptr;
    int64_t k_stride = 0, v_stride = 0;  // elements between rows
    float logit_bias = 0;                // -infinity: not seen
  } segment[kAttentionSegments];

  // Device memory, or null: all tiles; blocks in order of their number.
  const int64_t* tile_offsets = nullptr;  // [heads * query_tiles + 1]
  const int32_t* tile_keys = nullptr;
  const int32_t* row_order = nullptr;  // [heads * query_tiles]: rows, those with most tiles first
};

// f32 or bf16, any head_dim up to 512.
constexpr int kPlainMostDims = 512;
void launch_attention_plain(const AttentionParams& p, bool half, CUstream_st* stream);

// bf16, head_dim a multiple of 8 up to 128, rows of 16-byte aligned vectors, scale > 0, no bias.
constexpr int kMmaMostDims = 128;
void launch_attention_mma(const AttentionParams& p, CUstream_st* stream);

// bf16 on compute 9.0, head_dim 64 or 128, scale > 0, no bias. Tiles are those of SegmentTiles.
constexpr int kHopperSegments = 8;
struct HopperMaps;  // tensor maps of q and of each segment's k and v
void launch_attention_hopper(const AttentionParams& p, const HopperMaps& maps, bool simple,
                             CUstream_st* stream);

}  // namespace longtake::cuda
