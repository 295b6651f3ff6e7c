// Attention in double precision, query by query: the oracle of kernels/attention.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longtake::reference {

struct Attention {
  int64_t queries = 0, keys = 0, heads = 0, dim = 0;
  double scale = 1;
  std::span<const double> q;         // [queries, heads, dim]
  std::span<const double> k;         // [keys, heads, dim]
  std::span<const double> v;         // [keys, heads, dim]
  std::span<const double> key_bias;  // [keys] or empty: added to the logits
  std::span<const double> bias;      // [heads, queries, keys] or empty
  std::span<const uint8_t> visible;  // [heads, queries, keys] or empty: all
};

struct AttentionResult {
  std::vector<double> out;  // [queries, heads, dim]
  std::vector<double> lse;  // [heads, queries]
};

AttentionResult attention(const Attention& a);

// One query of one head: writes out [dim], returns the natural log of the sum of exponentials.
// Without any visible key: zeros and -infinity.
double attention_row(const Attention& a, int64_t head, int64_t query, std::span<double> out);

}  // namespace longtake::reference
