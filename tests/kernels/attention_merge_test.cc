// Merging of partial attention: against its oracle, against attention over all keys at once, and
// what must hold to the last bit.
#include "kernels/attention_merge.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/kernels/attention_problem.h"
#include "tests/kernels/merge_problem.h"
#include "tests/support/expect_error.h"

namespace longtake::testing {
namespace {

void merge(const AttentionMergeArgs& args) {
  merge_attention(args, test_stream());
}

// sqrt(sum (a - b)^2 / sum b^2)
double relative_rms(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, all = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    all += b[i] * b[i];
  }
  return std::sqrt(difference / all);
}

OwnedTensor rounded(const std::vector<double>& x, const Shape& shape, DType dtype) {
  OwnedTensor out(dtype, shape);
  for (size_t i = 0; i < x.size(); ++i) {
    if (dtype == DType::f32)
      out.as<float>()[i] = static_cast<float>(x[i]);
    else
      out.as<bf16>()[i] = to_bf16(static_cast<float>(x[i]));
  }
  return out;
}

// The keys [begin, end) of a problem with one segment.
struct Keys {
  KeySegment segment;
  OwnedTensor bias;
  Keys(const AttentionProblem& p, int64_t begin, int64_t end)
      : segment{p.segments[0].k.rows(begin, end), p.segments[0].v.rows(begin, end)},
        bias(DType::f32, {p.spec.heads, p.spec.queries, end - begin}) {
    const int64_t keys = p.spec.keys();
    for (int64_t row = 0; row < p.spec.heads * p.spec.queries; ++row)
      std::copy_n(p.bias.as<float>() + row * keys + begin, end - begin,
                  bias.as<float>() + row * (end - begin));
  }
};

// Attention over some keys; over none: (0, -infinity).
Answer attend(const AttentionProblem& p, int64_t begin, int64_t end) {
  Answer r{OwnedTensor(p.spec.dtype, p.out_shape()), OwnedTensor(DType::f32, p.lse_shape())};
  if (begin == end) {
    r.out.fill_zero();
    std::fill_n(r.lse.as<float>(), r.lse.numel(), kNoKeys);
    return r;
  }
  const Keys keys(p, begin, end);
  AttentionArgs args = p.args(r.out, r.lse);
  args.segments = {&keys.segment, 1};
  args.bias = keys.bias;
  attention(args, host_stream());
  return r;
}

reference::AttentionResult exact(const AttentionProblem& p, int64_t begin, int64_t end) {
  const auto outputs = static_cast<size_t>(p.out_shape().numel());
  const auto rows = static_cast<size_t>(p.lse_shape().numel());
  if (begin == end) return {std::vector<double>(outputs), std::vector<double>(rows, kNoKeys)};
  const Keys keys(p, begin, end);
  const auto q = to_doubles(p.q), k = to_doubles(keys.segment.k), v = to_doubles(keys.segment.v),
             bias = to_doubles(keys.bias);
  return reference::attention(
      {p.spec.queries, end - begin, p.spec.heads, p.spec.dim, p.scale(), q, k, v, {}, bias, {}});
}

// The parts of a split, by attention() or by its oracle and then rounded, merged into `dtype`.
enum class By { attention, oracle };
Answer merged(const AttentionProblem& p, std::vector<int64_t> cuts, By by, DType from, DType to) {
  cuts.insert(cuts.begin(), 0);
  cuts.push_back(p.spec.keys());
  std::vector<Answer> answers;
  for (size_t i = 1; i < cuts.size(); ++i) {
    if (by == By::attention) {
      answers.push_back(attend(p, cuts[i - 1], cuts[i]));
      continue;
    }
    const auto part = exact(p, cuts[i - 1], cuts[i]);
    answers.push_back(
        {rounded(part.out, p.out_shape(), from), rounded(part.lse, p.lse_shape(), DType::f32)});
  }
  std::vector<AttentionPart> parts;
  for (const Answer& a : answers) parts.push_back({a.out, a.lse, static_cast<int>(parts.size())});
  Answer r{OwnedTensor(to, p.out_shape()), OwnedTensor(DType::f32, p.lse_shape())};
  merge_attention({parts, r.out, r.lse}, host_stream());
  return r;
}

constexpr int64_t kQueries = 16;

// Of every fourth query a quarter of the keys is hidden, so that whole parts see nothing.
AttentionProblem masked_problem(DType dtype, int64_t keys) {
  AttentionProblem p({dtype, kQueries, 2, 128, {keys}, {}, true});
  float* bias = p.bias.as<float>();
  for (int64_t i = 0; i < p.bias.numel(); ++i) {
    const int64_t query = i / keys % kQueries, key = i % keys;
    bias[i] = query % 4 == 0 && key / (keys / 4) == query / 4 ? kNoKeys : 0.0f;
  }
  return p;
}

// 1 to 5 parts, even and uneven, some without a key.
std::vector<std::vector<int64_t>> splits(int64_t keys) {
  return {{},
          {keys / 2},
          {1},
          {0},
          {keys / 3, 2 * keys / 3},
          {100, keys - 1},
          {0, 0, 5 * keys / 8},
          {keys / 5, 2 * keys / 5, 3 * keys / 5, 4 * keys / 5},
          {17, 17, keys / 2, keys}};
}

}  // namespace

TEST_CASE("merge oracle: two parts, checked by hand") {
  // Sums 1 and 3: weights 1/4 and 3/4.
  reference::Attention shape{};
  shape.queries = shape.heads = shape.dim = 1;
  const std::vector<reference::AttentionResult> parts{{{8.0}, {0.0}}, {{16.0}, {std::log(3.0)}}};

  const auto r = reference::merge_attention(shape, parts);

  CHECK(r.out[0] == doctest::Approx(14.0));
  CHECK(r.lse[0] == doctest::Approx(std::log(4.0)));
}

TEST_CASE("merge agrees with the oracle for all sizes, types and counts of parts") {
  check_merges(merge);
}

TEST_CASE("merge copies a lonely part and gives 0 and -infinity without any") {
  check_lonely_parts(merge);
}

// The merge's own error, with exact parts. In f32 the logs of the sums, about 9.3, are rounded by
// up to 2^-21, 2.8e-7 in the mean square, and a weight by that of two of them; the output moves by
// half of the difference times its own size where two equal parts have no common sign: 2e-7. In
// bf16 one rounding is 1.65e-3 in the mean square, and parts and result are rounded: 2.34e-3.
TEST_CASE("merge adds at most 1e-6 in f32 and 2.5e-3 in bf16, for any split") {
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem p = masked_problem(dtype, 4800);
    const auto whole = exact(p, 0, 4800);
    const double most = dtype == DType::f32 ? 1e-6 : 2.5e-3;
    for (const auto& cuts : splits(4800)) {
      CAPTURE(cuts.size());
      CAPTURE(name(dtype));
      const Answer got = merged(p, cuts, By::oracle, dtype, dtype);
      const Answer wide = merged(p, cuts, By::oracle, DType::f32, dtype);
      CHECK(relative_rms(to_doubles(got.out), whole.out) <= most);
      CHECK(relative_rms(to_doubles(wide.out), whole.out) <= std::max(1e-6, most * 0.7));
      CHECK(relative_rms(to_doubles(got.lse), whole.lse) <= 1e-6);
    }
  }
}

// Against attention() itself, whose sums of n products without a common sign are off by about
// 0.4 u sqrt(n / 2), 1.2e-6 at 4,800 keys and 6e-7 at 1,200, and in bf16 by one rounding of the
// weights and one of the result, 2.3e-3.
TEST_CASE("merge of what attention() gives is as near the oracle as attention over all keys") {
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem p = masked_problem(dtype, 4800);
    const auto truth = exact(p, 0, 4800);
    const double whole = relative_rms(to_doubles(attend(p, 0, 4800).out), truth.out);
    for (const auto& cuts : splits(4800)) {
      CAPTURE(cuts.size());
      const Answer got = merged(p, cuts, By::attention, dtype, dtype);
      CHECK(relative_rms(to_doubles(got.out), truth.out) <=
            whole + (dtype == DType::f32 ? 1e-6 : 2.5e-3));
    }
  }
  const AttentionProblem p = masked_problem(DType::f32, 1200);
  const auto whole = to_doubles(attend(p, 0, 1200).out);
  for (const auto& cuts : splits(1200)) {
    const auto got = to_doubles(merged(p, cuts, By::attention, DType::f32, DType::f32).out);
    CHECK(relative_rms(got, whole) <= 1e-6);
  }
}

TEST_CASE("merge gives the same bits in any order of arrival and for any number of threads") {
  for (const DType dtype : kComputeTypes) {
    MergeProblem p(33, 3, 128, 5, dtype);
    p.hide(1, 4, 2);
    Merged first(p, dtype);
    std::vector<AttentionPart> parts = p.parts();
    merge_attention({parts, first.out, first.lse}, host_stream(1));
    std::vector<int> order{0, 1, 2, 3, 4};
    while (std::next_permutation(order.begin(), order.end())) {
      std::vector<AttentionPart> arrived;
      for (const int i : order) arrived.push_back(parts[static_cast<size_t>(i)]);
      Merged again(p, dtype);
      merge_attention({arrived, again.out, again.lse}, host_stream(1 + order[0] % 3));
      CHECK(same_bits(again.out, first.out));
      CHECK(same_bits(again.lse, first.lse));
    }
  }
}

TEST_CASE("merge passes on what is not a number") {
  for (const float wrong : {NAN, HUGE_VALF})
    for (const int part : {0, 1, 2}) {
      MergeProblem p(2, 1, 8, 3, DType::f32);
      const Tensor logs = p.logs(part);
      logs.as<float>()[1] = wrong;
      Merged got(p, DType::f32);
      merge_attention({p.parts(), got.out, got.lse}, host_stream());
      CHECK(std::isnan(got.out.as<float>()[8]));
      CHECK(std::isnan(got.lse.as<float>()[1]));
      CHECK(std::isfinite(got.out.as<float>()[0]));
    }
}

TEST_CASE("merge refuses what does not fit") {
  MergeProblem p(4, 2, 8, 2, DType::f32), wider(4, 2, 16, 2, DType::f32),
      half(4, 2, 8, 2, DType::bf16);
  Merged got(p, DType::f32);
  const auto refused = [&](std::vector<AttentionPart> parts, const char* why) {
    const Error error = error_of([&] {
      merge_attention({parts, got.out, got.lse}, host_stream());
    });
    CHECK_MESSAGE(mentions(error, why), error.what());
  };
  auto twice = p.parts();
  twice[1].segment = twice[0].segment;
  auto mixed = p.parts();
  mixed[1].out = half.out(1);
  auto long_lse = p.parts();
  long_lse[0].lse = wider.lse[0];

  refused({}, "expected 1 to 16 parts, found 0");
  refused(twice, "expected each segment once, found 0 twice");
  refused(mixed, "expected parts all f32 or all bf16, found f32 and bf16");
  refused(wider.parts(), "merge_attention part: expected [4, 2, 8], found [4, 2, 16]");
  refused(long_lse, "merge_attention part's lse: expected [2, 4], found [2, 7]");
}

}  // namespace longtake::testing
