// Attention calls for tests: random tensors as views of wider matrices, the oracle's answer, and
// the bounds of the difference.
//
// With |q|, |k| < 2 and scale 1 / sqrt(dim), logits have a deviation of 4/3; 8 bounds them. With u
// = 2^-24 a logit is off by at most about u 8 sqrt(dim) (rounding errors of a sum add up like its
// root), a weight by that, the rounding of its logit (8 u) and the exponential (2 u). W is the
// oracle's answer for |v|: what errors of the weights are scaled with. Adding up the weighted
// values costs u sqrt(keys) W. In bf16 every weight and every result is rounded once, by at most
// 2^-8 of itself, and the exponential has a relative error of 3e-6; inputs are rounded before both
// sides see them.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/attention.h"
#include "kernels/reference/attention.h"
#include "tests/kernels/rows.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {

struct AttentionSpec {
  DType dtype = DType::f32;
  int64_t queries = 1, heads = 1, dim = 1;
  std::vector<int64_t> segments = {1};
  std::vector<float> logit_bias = {};  // one of each segment, or empty
  bool bias = false;
  int64_t keys() const {
    int64_t n = 0;
    for (const int64_t rows : segments) n += rows;
    return n;
  }
};

class AttentionProblem {
 public:
  explicit AttentionProblem(const AttentionSpec& spec, uint64_t seed = 1)
      : spec(spec), wide(3 * spec.heads * spec.dim + 5) {
    own(spec.queries, seed);
    for (size_t i = 0; i < spec.segments.size(); ++i) own(spec.segments[i], seed + 1 + i);
    q = part(matrices[0], 0);
    for (size_t i = 0; i < spec.segments.size(); ++i) {
      const float logit_bias = spec.logit_bias.empty() ? 0.0f : spec.logit_bias[i];
      segments.push_back({part(matrices[i + 1], 1), part(matrices[i + 1], 2), logit_bias});
    }
    if (spec.bias) bias = random_tensor({spec.heads, spec.queries, spec.keys()}, seed + 100, 2.0f);
  }

  // Queries, keys or values of a matrix: strided rows.
  ConstTensor part(const OwnedTensor& matrix, int64_t i) const {
    const int64_t width = spec.heads * spec.dim;
    return matrix.view()
        .columns(2 + i * width, 2 + (i + 1) * width)
        .reshape({matrix.dim(0), spec.heads, spec.dim});
  }

  AttentionArgs args(OwnedTensor& out, OwnedTensor& lse) const {
    AttentionArgs a;
    a.q = q;
    a.segments = segments;
    a.out = out;
    a.scale = scale();
    a.lse = lse;
    if (spec.bias) a.bias = bias;
    return a;
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(spec.dim)); }
  Shape out_shape() const { return {spec.queries, spec.heads, spec.dim}; }
  Shape lse_shape() const { return {spec.heads, spec.queries}; }

  AttentionSpec spec;
  int64_t wide;
  std::vector<OwnedTensor> matrices;
  ConstTensor q;
  std::vector<KeySegment> segments;
  OwnedTensor bias;
  std::vector<uint8_t> visible;  // of the oracle: [heads, queries, keys] or empty

 private:
  void own(int64_t rows, uint64_t seed) {
    matrices.push_back(random_tensor({rows, wide}, seed, 2.0f, spec.dtype));
  }
};

struct Answer {
  OwnedTensor out, lse;
};

inline Answer run(const AttentionProblem& p, int threads = 2,
                  const AttentionTiles* tiles = nullptr) {
  Answer r{OwnedTensor(p.spec.dtype, p.out_shape()), OwnedTensor(DType::f32, p.lse_shape())};
  AttentionArgs args = p.args(r.out, r.lse);
  args.tiles = tiles;
  attention(args, test_stream(threads));
  return r;
}

struct Expected {
  reference::AttentionResult result;
  std::vector<double> magnitude;  // W
};

inline Expected oracle(const AttentionProblem& p) {
  std::vector<double> k, v, key_bias, bias;
  for (const KeySegment& segment : p.segments) {
    const auto ks = to_doubles(segment.k), vs = to_doubles(segment.v);
    k.insert(k.end(), ks.begin(), ks.end());
    v.insert(v.end(), vs.begin(), vs.end());
    key_bias.insert(key_bias.end(), static_cast<size_t>(segment.k.dim(0)), segment.logit_bias);
  }
  const auto q = to_doubles(p.q);
  if (p.spec.bias) bias = to_doubles(p.bias);
  reference::Attention a{
      p.spec.queries, p.spec.keys(), p.spec.heads, p.spec.dim, p.scale(), q, k, v,
      key_bias,       bias,          p.visible};
  Expected e{reference::attention(a), {}};
  for (double& x : v) x = std::abs(x);
  e.magnitude = reference::attention(a).out;
  return e;
}

// The largest ratio of a difference to its bound: below 1 where all is well. NaN counts as
// infinite.
inline double worst(const AttentionProblem& p, const Answer& got, const Expected& expected) {
  const double u = 0x1p-24, keys = static_cast<double>(p.spec.keys());
  const bool half = p.spec.dtype == DType::bf16;
  const double weight =
      u * (8 * std::sqrt(static_cast<double>(p.spec.dim)) + 10) + (half ? 3e-6 : 0.0);
  double ratio = 0;
  const auto see = [&](double difference, double bound) {
    ratio = std::max(ratio, std::isnan(difference) ? HUGE_VAL : std::abs(difference) / bound);
  };
  const auto out = to_doubles(got.out), lse = to_doubles(got.lse);
  for (size_t i = 0; i < out.size(); ++i) {
    const double x = expected.result.out[i], w = expected.magnitude[i];
    const double bound =
        (weight + u * (std::sqrt(keys) + 4)) * w + (half ? 0x1p-8 * (w + std::abs(x)) : 0.0);
    see(out[i] - x, bound + 1e-30);
  }
  for (size_t i = 0; i < lse.size(); ++i) {
    const double x = expected.result.lse[i];
    if (std::isinf(x))
      see(lse[i] == x ? 0.0 : HUGE_VAL, 1.0);
    else
      see(lse[i] - x, weight + u * (std::sqrt(keys) + 4 + 2 * std::abs(x)));
  }
  return ratio;
}

}  // namespace longtake::testing
