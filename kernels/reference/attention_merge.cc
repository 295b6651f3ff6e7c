#include "kernels/reference/attention_merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longtake::reference {

AttentionResult merge_attention(const Attention& a, std::span<const AttentionResult> parts) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  AttentionResult r{std::vector<double>(static_cast<size_t>(a.queries * a.heads * a.dim)),
                    std::vector<double>(static_cast<size_t>(a.heads * a.queries), none)};
  for (int64_t head = 0; head < a.heads; ++head)
    for (int64_t query = 0; query < a.queries; ++query) {
      const auto row = static_cast<size_t>(head * a.queries + query);
      double top = none, total = 0;
      for (const AttentionResult& part : parts) top = std::max(top, part.lse[row]);
      if (top == none) continue;
      double* out = &r.out[static_cast<size_t>((query * a.heads + head) * a.dim)];
      for (const AttentionResult& part : parts) {
        if (part.lse[row] == none) continue;
        const double weight = std::exp(part.lse[row] - top);
        const double* x = &part.out[static_cast<size_t>((query * a.heads + head) * a.dim)];
        total += weight;
        for (int64_t i = 0; i < a.dim; ++i) out[i] += weight * x[i];
      }
      for (int64_t i = 0; i < a.dim; ++i) out[i] /= total;
      r.lse[row] = top + std::log(total);
    }
  return r;
}

}  // namespace longtake::reference
