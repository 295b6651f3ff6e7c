#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longtake::reference {

double attention_row(const Attention& a, int64_t head, int64_t query, std::span<double> out) {
  const double* q = &a.q[static_cast<size_t>((query * a.heads + head) * a.dim)];
  const size_t row = static_cast<size_t>((head * a.queries + query) * a.keys);
  std::vector<double> logits(static_cast<size_t>(a.keys));
  for (size_t key = 0; key < logits.size(); ++key) {
    const double* k = &a.k[(key * static_cast<size_t>(a.heads) + static_cast<size_t>(head)) *
                           static_cast<size_t>(a.dim)];
    double dot = 0;
    for (int64_t i = 0; i < a.dim; ++i) dot += q[i] * k[i];
    logits[key] = a.scale * dot;
    if (!a.key_bias.empty()) logits[key] += a.key_bias[key];
    if (!a.bias.empty()) logits[key] += a.bias[row + key];
    if (!a.visible.empty() && !a.visible[row + key])
      logits[key] = -std::numeric_limits<double>::infinity();
  }

  std::fill(out.begin(), out.end(), 0.0);
  const double top = *std::max_element(logits.begin(), logits.end());
  if (std::isinf(top)) return top;
  double total = 0;
  for (size_t key = 0; key < logits.size(); ++key) {
    const double weight = std::exp(logits[key] - top);
    const double* v = &a.v[(key * static_cast<size_t>(a.heads) + static_cast<size_t>(head)) *
                           static_cast<size_t>(a.dim)];
    total += weight;
    for (size_t i = 0; i < out.size(); ++i) out[i] += weight * v[i];
  }
  for (double& x : out) x /= total;
  return top + std::log(total);
}

AttentionResult attention(const Attention& a) {
  AttentionResult r;
  r.out.resize(static_cast<size_t>(a.queries * a.heads * a.dim));
  r.lse.resize(static_cast<size_t>(a.heads * a.queries));
  for (int64_t head = 0; head < a.heads; ++head) {
    for (int64_t query = 0; query < a.queries; ++query) {
      const auto at = static_cast<size_t>((query * a.heads + head) * a.dim);
      const std::span<double> out(r.out.data() + at, static_cast<size_t>(a.dim));
      r.lse[static_cast<size_t>(head * a.queries + query)] = attention_row(a, head, query, out);
    }
  }
  return r;
}

}  // namespace longtake::reference
