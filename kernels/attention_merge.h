// Attention over all keys from attention over parts of them: with L_i the natural log of a part's
// sum of exp(logits), m = max L_i and w_i = exp(L_i - m),
//   O = sum w_i O_i / sum w_i,   L = m + ln sum w_i.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

// What attention() gives for some of the keys.
struct AttentionPart {
  ConstTensor out;      // [queries, heads, head_dim], f32 or bf16, row stride free
  ConstTensor lse;      // f32 [heads, queries], row stride free; -infinity: saw no key
  int32_t segment = 0;  // where its keys stand among all, each number once
};

struct AttentionMergeArgs {
  static constexpr int kMostParts = 16;
  std::span<const AttentionPart> parts;  // at least one, all of one dtype; none overlaps out or lse
  Tensor out;                            // [queries, heads, head_dim], f32 or bf16
  Tensor lse = {};                       // optional, f32 [heads, queries]
};

// In f32, in the order of `segment`: the same bits in whatever order the parts are listed. A part
// without keys is skipped for that query, whatever its `out` holds; all without: out 0, lse
// -infinity. One part with keys is copied. An lse of NaN or +infinity gives NaN.
void merge_attention(const AttentionMergeArgs& args, StreamRef stream);

}  // namespace longtake
