// Partial attention results to merge, and how far a merged one may lie from the oracle. The checks
// take the operator as a function, so that they also run on the CUDA kernel (tests/cuda_host).
#pragma once

#include <limits>
#include <span>
#include <vector>

#include "kernels/attention_merge.h"
#include "kernels/reference/attention_merge.h"
#include "tests/kernels/rows.h"

namespace longtake::testing {

constexpr float kNoKeys = -std::numeric_limits<float>::infinity();

// Random results with logs of sums from -30 to 30, as views of wider matrices.
class MergeProblem {
 public:
  MergeProblem(int64_t queries, int64_t heads, int64_t dim, int count, DType dtype,
               int64_t padding = 5)
      : queries(queries), heads(heads), dim(dim) {
    const auto seed = static_cast<uint64_t>(16 * count);
    for (int i = 0; i < count; ++i) {
      const auto own = seed + static_cast<uint64_t>(i);
      wide.push_back(random_tensor({queries, heads * dim + padding}, own, 2.0f, dtype));
      lse.push_back(random_tensor({heads, queries + 3}, own + 1000, 30.0f));
    }
  }
  ConstTensor out(int i) const {
    return wide[static_cast<size_t>(i)]
        .view()
        .columns(0, heads * dim)
        .reshape({queries, heads, dim});
  }
  Tensor logs(int i) { return lse[static_cast<size_t>(i)].view().columns(1, 1 + queries); }
  std::vector<AttentionPart> parts() {
    std::vector<AttentionPart> all;
    for (int i = 0; i < count(); ++i) all.push_back({out(i), logs(i), 3 * i});
    return all;
  }
  int count() const { return static_cast<int>(wide.size()); }
  // Of one query and head there was no key in part i, and its numbers are NaN.
  void hide(int i, int64_t query, int64_t head) {
    const Tensor l = logs(i);
    l.as<float>()[head * l.row_stride + query] = kNoKeys;
    const Tensor x = wide[static_cast<size_t>(i)].view();
    const int64_t at = query * x.row_stride + head * dim;
    for (int64_t k = at; k < at + dim; ++k) {
      if (x.dtype == DType::f32)
        x.as<float>()[k] = NAN;
      else
        x.as<bf16>()[k] = to_bf16(NAN);
    }
  }

  int64_t queries, heads, dim;
  std::vector<OwnedTensor> wide, lse;
};

struct Merged {
  OwnedTensor out, lse;  // dense
  Merged(const MergeProblem& p, DType dtype)
      : out(dtype, {p.queries, p.heads, p.dim}), lse(DType::f32, {p.heads, p.queries}) {}
};

// A difference of logs d is rounded by u |d|, |d| <= 60, and the exponential by 2 u; so a weight is
// off by at most 62 u of itself, their sum by u for each part more, and then there are a quotient
// and a product and a sum for each part.
template <class Merge>
void check_merge(MergeProblem& p, DType dtype, Merge merge) {
  Merged got(p, dtype);
  merge(AttentionMergeArgs{p.parts(), got.out, got.lse});

  std::vector<reference::AttentionResult> parts, magnitudes;
  for (int i = 0; i < p.count(); ++i) {
    parts.push_back({to_doubles(p.out(i)), to_doubles(p.logs(i))});
    magnitudes.push_back(parts.back());
    for (double& x : magnitudes.back().out) x = std::abs(x);
  }
  reference::Attention shape{};
  shape.queries = p.queries, shape.heads = p.heads, shape.dim = p.dim;
  const auto expected = reference::merge_attention(shape, parts);
  std::vector<double> bound = reference::merge_attention(shape, magnitudes).out;
  for (double& x : bound) x *= kUnit32 * 2 * (62 + p.count() + 1);
  CHECK(worst_ratio(got.out, expected.out, bound) < 1.0);
  const std::vector<double> lse = to_doubles(got.lse);
  for (size_t i = 0; i < lse.size(); ++i) {
    const double x = expected.lse[i];
    const double most = kUnit32 * (62 + p.count() + 3 + 2 * std::abs(x));
    CHECK((lse[i] == x || std::abs(lse[i] - x) <= most));
  }
}

// Every count of parts, size and pair of types; of every query other parts have no keys.
template <class Merge>
void check_merges(Merge merge) {
  for (const DType from : kComputeTypes)
    for (const DType to : kComputeTypes)
      for (const int64_t dim : {1, 3, 12, 64, 80, 128})
        for (const int count : {1, 2, 3, 5, 16})
          for (const int64_t padding : {5, 8}) {
            CAPTURE(name(from));
            CAPTURE(name(to));
            CAPTURE(dim);
            CAPTURE(count);
            MergeProblem p(9, 2, dim, count, from, padding);
            for (int64_t query = 0; query < p.queries; ++query)
              for (int i = 0; i < count; ++i)
                if (query % 3 == 2 || (query + i) % 3 == 1) p.hide(i, query, query % 2);
            check_merge(p, to, merge);
          }
}

// One part with keys is copied; without any: 0 and -infinity.
template <class Merge>
void check_lonely_parts(Merge merge) {
  for (const DType dtype : kComputeTypes) {
    MergeProblem p(5, 2, 24, 3, dtype);
    for (int64_t query = 0; query < p.queries; ++query)
      for (int64_t head = 0; head < 2; ++head)
        for (int i = 0; i < 3; ++i)
          if (query == 4 || i != query % 3) p.hide(i, query, head);
    Merged got(p, dtype);
    merge(AttentionMergeArgs{p.parts(), got.out, got.lse});
    for (int64_t query = 0; query < p.queries; ++query)
      for (int64_t head = 0; head < 2; ++head) {
        const int from = static_cast<int>(query % 3);
        const Tensor logs = p.logs(from);
        CHECK(got.lse.as<float>()[head * p.queries + query] ==
              (query == 4 ? kNoKeys : logs.as<float>()[head * logs.row_stride + query]));
        for (int64_t k = head * 24; k < head * 24 + 24; ++k)
          CHECK(element(got.out.view().reshape({5, 48}), query, k) ==
                (query == 4 ? 0.0 : element(p.out(from), query, k)));
      }
  }
}

}  // namespace longtake::testing
