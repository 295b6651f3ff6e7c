// Dense self-attention (or cross-attention, with kv_tokens): 4 tokens kv_tokens head_dim operations
// a head, packing of keys and values included.
#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/base/error.h"
#include "kernels/copy.h"
#include "kernels/reference/attention.h"
#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"

namespace longtake {

namespace {

// Rows [begin, end) of one head.
std::vector<double> head_rows(const OwnedTensor& x, int64_t head, int64_t begin, int64_t end) {
  std::vector<double> out;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t i = 0; i < x.dim(2); ++i) {
      const int64_t at = (row * x.dim(1) + head) * x.dim(2) + i;
      out.push_back(x.dtype() == DType::bf16 ? to_float(x.as<bf16>()[at]) : x.as<float>()[at]);
    }
  }
  return out;
}

struct Problem {
  OwnedTensor q, k, v, out;

  Problem(const BenchSetup& o, BenchDevice& device, int64_t tokens, int64_t keys)
      : q(device.normal(o.dtype, {tokens, o.heads, o.head_dim}, 1)),
        k(device.normal(o.dtype, {keys, o.heads, o.head_dim}, 2)),
        v(device.normal(o.dtype, {keys, o.heads, o.head_dim}, 3)),
        out(o.dtype, {tokens, o.heads, o.head_dim}, device.stream().device()) {}

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(q.dim(2))); }

  void run(StreamRef stream) {
    const KeySegment segment{k, v};
    AttentionArgs args;
    args.q = q;
    args.segments = {&segment, 1};
    args.out = out;
    args.scale = scale();
    attention(args, stream);
  }

  // |out - reference| / |reference| of one query of one head.
  double error(int64_t head, int64_t query, StreamRef stream) const {
    const auto one = head_rows(to_host(q, stream), head, query, query + 1),
               got = head_rows(to_host(out, stream), head, query, query + 1);
    const auto keys = head_rows(to_host(k, stream), head, 0, k.dim(0)),
               values = head_rows(to_host(v, stream), head, 0, v.dim(0));
    std::vector<double> expected(got.size());
    reference::attention_row({1, k.dim(0), 1, k.dim(2), scale(), one, keys, values, {}, {}, {}}, 0,
                             0, expected);
    double difference = 0, length = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      difference += (got[i] - expected[i]) * (got[i] - expected[i]);
      length += expected[i] * expected[i];
    }
    return std::sqrt(difference / length);
  }
};

}  // namespace

void bench_attention(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  BenchReport report("attention", setup);
  for (const int64_t tokens : setup.tokens) {
    const int64_t keys = setup.kv_tokens > 0 ? setup.kv_tokens : tokens;
    LT_CHECK(tokens > 0, "bench attention: expected a positive number of tokens, found {}", tokens);
    Problem problem(setup, device, tokens, keys);
    const double flops = 4.0 * static_cast<double>(tokens * keys * setup.heads * setup.head_dim);
    BenchRow row = device.measure(flops, [&] { problem.run(stream); });
    row.labels = {{"tokens", tokens},
                  {"kv_tokens", keys},
                  {"heads", setup.heads},
                  {"head_dim", setup.head_dim},
                  {"dtype", std::string(name(setup.dtype))}};
    row.error = 0;
    for (const int64_t query : {int64_t{0}, tokens / 2, tokens - 1})
      row.error = std::max(*row.error, problem.error(query % setup.heads, query, stream));
    report.add(std::move(row));
  }
  report.close();
}

}  // namespace longtake
