// Merging of partial attention in double precision: the oracle of kernels/attention_merge.h.
#pragma once

#include <span>

#include "kernels/reference/attention.h"

namespace longtake::reference {

// parts: in the order of their keys, each of the shape of `a` (its queries, heads and dim).
AttentionResult merge_attention(const Attention& a, std::span<const AttentionResult> parts);

}  // namespace longtake::reference
