// Scaled dot-product attention, softmax(scale q k^T + bias) v per head, by online softmax.
// A key whose logit is below -1e30 (a bias of -infinity) is not seen.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/buffer.h"
#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

namespace cuda {
class DeviceTiles;  // kernels/cuda/device_tiles.h
}

// Consecutive keys from one buffer. The keys of a call are its segments one after the other;
// nothing is concatenated by the caller.
struct KeySegment {
  ConstTensor k;  // [rows, heads, head_dim], row stride free
  ConstTensor v;  // [rows, heads, head_dim], row stride free
  // Added to the logits of all its keys: ln(n) makes one row stand for n equal ones.
  float logit_bias = 0;
};

// Which tiles of kTile keys each tile of kTile queries sees: for (head, query tile) number i =
// head * query_tiles + tile, the ascending key tiles keys[offsets[i]] .. keys[offsets[i + 1] - 1].
// Tiles count over the concatenated keys; the last ones may be partial.
struct AttentionTiles {
  static constexpr int64_t kTile = 128;
  std::span<const int64_t> offsets;  // [heads * query_tiles + 1]
  std::span<const int32_t> keys;
  // The same lists on the GPU, or null: it copies them there for each call. The CPU ignores it.
  const cuda::DeviceTiles* on_device = nullptr;
};

// Keys and values as the CPU's kernels read them. Calls that get the same one find them packed, so
// their segments must be the same; for others it is made anew, or `filled` is set to false.
struct PackedKeys {
  Buffer memory;
  bool filled = false;
};

struct AttentionArgs {
  ConstTensor q;                         // [queries, heads, head_dim], f32 or bf16
  std::span<const KeySegment> segments;  // at least one row in all; the dtype of q
  Tensor out;                            // [queries, heads, head_dim], the dtype of q
  float scale = 1;
  Tensor lse = {};        // optional, f32 [heads, queries]: natural log of the sum of exp(logits)
  ConstTensor bias = {};  // optional, f32 [heads, queries, keys], added to the scaled logits
  const AttentionTiles* tiles = nullptr;  // optional; a query without any key: out 0, lse -inf
  // Optional, for calls with a few of the queries each; not for two threads at once. Heads that do
  // not fit in one group of the CPU's are packed at every call.
  PackedKeys* packed = nullptr;
};

// Logits, softmax and sums in f32; in bf16 the probabilities are rounded to bf16 before the second
// product. Any head_dim >= 1. The result does not depend on the number of threads, nor a head's
// result on which other heads are in the call.
void attention(const AttentionArgs& args, StreamRef stream);

}  // namespace longtake
