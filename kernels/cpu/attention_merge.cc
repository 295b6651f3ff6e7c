#include "kernels/cpu/attention_merge.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/norm.h"

namespace longtake::cpu {

namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

const char* row_of(const ConstTensor& x, int64_t query, int64_t head) {
  const int64_t at = query * x.row_stride + head * x.dim(2);
  return static_cast<const char*>(x.data) + static_cast<size_t>(at) * size_bytes(x.dtype);
}

// The parts that saw a key of this query, with weights w_i / sum w_i. Returns L.
float weigh(const AttentionMergeArgs& a, int64_t query, int64_t head, WeightedRow& row) {
  static_assert(WeightedRow::kMost == AttentionMergeArgs::kMostParts);
  float lse[AttentionMergeArgs::kMostParts], top = kNone;
  for (const AttentionPart& part : a.parts) {
    const float l = part.lse.as<float>()[head * part.lse.row_stride + query];
    if (l == kNone) continue;
    row.x[row.count] = row_of(part.out, query, head);
    lse[row.count++] = l;
    top = l <= top ? top : l;  // NaN stays
  }
  float total = 0;
  for (int i = 0; i < row.count; ++i) total += row.weight[i] = std::exp(lse[i] - top);
  for (int i = 0; i < row.count; ++i) row.weight[i] /= total;
  return row.count == 0 ? kNone : top + std::log(total);
}

}  // namespace

void merge_attention(const AttentionMergeArgs& a, StreamRef stream) {
  const int64_t heads = a.out.dim(1), dim = a.out.dim(2);
  const auto weighted_row = active_kernels().weighted_row;
  parallel_rows(a.out.dim(0), heads * dim, stream, [&](int64_t begin, int64_t end) {
    for (int64_t query = begin; query < end; ++query)
      for (int64_t head = 0; head < heads; ++head) {
        WeightedRow row{};
        row.x_type = row_type(a.parts.front().out.dtype), row.y_type = row_type(a.out.dtype);
        row.y = const_cast<char*>(row_of(a.out, query, head));
        row.n = dim;
        const float lse = weigh(a, query, head, row);
        weighted_row(row);
        if (a.lse) a.lse.as<float>()[head * a.lse.row_stride + query] = lse;
      }
  });
}

}  // namespace longtake::cpu
