// Attention against its oracle, and what must hold to the last bit.
#include <doctest/doctest.h>

#include <limits>
#include <random>

#include "kernels/base/error.h"
#include "tests/kernels/attention_problem.h"

namespace longtake::testing {
namespace {

constexpr int64_t kTile = AttentionTiles::kTile;

void check_against_oracle(const AttentionSpec& spec) {
  CAPTURE(name(spec.dtype));
  CAPTURE(spec.queries);
  CAPTURE(spec.dim);
  CAPTURE(spec.keys());
  const AttentionProblem problem(spec);

  const Answer got = run(problem);

  CHECK(worst(problem, got, oracle(problem)) < 1.0);
}

// Tile lists as a caller builds them.
struct Tiles {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> keys;
  AttentionTiles view() const { return {offsets, keys}; }
};

// keep(head, query tile, key tile); the oracle's mask goes into the problem.
template <class Keep>
Tiles make_tiles(AttentionProblem& p, Keep keep) {
  const int64_t queries = p.spec.queries, keys = p.spec.keys();
  Tiles tiles;
  p.visible.assign(static_cast<size_t>(p.spec.heads * queries * keys), 0);
  for (int64_t head = 0; head < p.spec.heads; ++head) {
    for (int64_t i = 0; i * kTile < queries; ++i) {
      for (int64_t j = 0; j * kTile < keys; ++j) {
        if (!keep(head, i, j)) continue;
        tiles.keys.push_back(static_cast<int32_t>(j));
        for (int64_t query = i * kTile; query < std::min(queries, (i + 1) * kTile); ++query)
          for (int64_t key = j * kTile; key < std::min(keys, (j + 1) * kTile); ++key)
            p.visible[static_cast<size_t>((head * queries + query) * keys + key)] = 1;
      }
      tiles.offsets.push_back(static_cast<int64_t>(tiles.keys.size()));
    }
  }
  return tiles;
}

}  // namespace

TEST_CASE("the oracle: two keys, checked by hand") {
  // Logits 0 and ln 3: weights 1/4 and 3/4.
  const std::vector<double> q{1.0}, k{0.0, std::log(3.0)}, v{8.0, 16.0};
  const reference::Attention a{1, 2, 1, 1, 1.0, q, k, v, {}, {}, {}};

  const auto r = reference::attention(a);

  CHECK(r.out[0] == doctest::Approx(14.0));
  CHECK(r.lse[0] == doctest::Approx(std::log(4.0)));
}

TEST_CASE("attention agrees with the oracle for every head size") {
  for (const DType dtype : kComputeTypes)
    for (const int64_t dim :
         {1, 2, 3, 12, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384, 1024})
      check_against_oracle({dtype, 37, 2, dim, {75}});
}

TEST_CASE("attention agrees with the oracle for awkward lengths") {
  const int64_t lengths[] = {1, 2, 3, 7, 63, 65, 127, 129, 255, 257, 511, 515};
  for (const DType dtype : kComputeTypes) {
    for (const int64_t keys : lengths) check_against_oracle({dtype, 5, 1, 64, {keys}});
    for (const int64_t queries : lengths) check_against_oracle({dtype, queries, 1, 24, {70}});
    check_against_oracle({dtype, 257, 1, 64, {257}});
    check_against_oracle({dtype, 130, 3, 128, {300}});
  }
}

TEST_CASE("keys may come in segments, each with a bias") {
  for (const DType dtype : kComputeTypes) {
    check_against_oracle({dtype, 65, 2, 64, {129, 7}});
    check_against_oracle({dtype, 33, 2, 12, {1, 63, 200}});
    check_against_oracle({dtype, 33, 2, 128, {130, 0, 65}, {0.0f, 1.0f, std::log(3.0f)}});
    check_against_oracle({dtype, 64, 3, 64, {255, 2, 3}, {-1.5f, 0.0f, 2.0f}});
  }
}

TEST_CASE("segments are as good as one buffer, to the last bit") {
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem whole({dtype, 67, 2, 64, {391}});
    AttentionProblem parts({dtype, 67, 2, 64, {391}});
    const KeySegment all = parts.segments[0];
    parts.segments = {{all.k.rows(0, 130), all.v.rows(0, 130)},
                      {all.k.rows(130, 131), all.v.rows(130, 131)},
                      {all.k.rows(131, 391), all.v.rows(131, 391)}};

    const Answer a = run(whole), b = run(parts);

    CHECK(same_bits(a.out, b.out));
    CHECK(same_bits(a.lse, b.lse));
  }
}

TEST_CASE("a dense bias is added to the logits; -infinity hides keys") {
  for (const DType dtype : kComputeTypes) {
    check_against_oracle({dtype, 65, 2, 64, {77, 200}, {}, true});
    check_against_oracle({dtype, 3, 2, 24, {515}, {}, true});

    AttentionProblem masked({dtype, 4, 2, 64, {301}, {}, true});
    float* bias = masked.bias.as<float>();
    for (int64_t i = 0; i < masked.bias.numel(); ++i) {
      const int64_t query = i / 301 % 4, key = i % 301;
      // Query 0 sees nothing, query 1 only the last key, query 2 nothing of the first block.
      if (query == 0 || (query == 1 && key < 300) || (query == 2 && key < 260))
        bias[i] = -std::numeric_limits<float>::infinity();
    }
    const Answer got = run(masked);
    CHECK(worst(masked, got, oracle(masked)) < 1.0);
    CHECK(got.lse.as<float>()[0] == -std::numeric_limits<float>::infinity());
  }
}

TEST_CASE("logits far apart neither overflow nor lose the largest") {
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 2, 1, 16, {700}, {}, true});
    float* bias = p.bias.as<float>();
    for (int64_t i = 0; i < 1400; ++i)
      bias[i] = static_cast<float>(i % 700) * (i < 700 ? 3.0f : -3.0f);

    const Answer got = run(p);

    // Logits reach 2100: their rounding, 2100 * 2^-24, is the error of a weight.
    const Expected expected = oracle(p);
    for (int64_t i = 0; i < 32; ++i)
      CHECK(std::abs(element(got.out, 0, i) - expected.result.out[static_cast<size_t>(i)]) <
            (dtype == DType::f32 ? 5e-4 : 2e-2));
    for (size_t i = 0; i < 2; ++i)
      CHECK(got.lse.as<float>()[i] == doctest::Approx(expected.result.lse[i]).epsilon(2e-6));
  }
}

TEST_CASE("a scale may be zero or negative") {
  for (const float scale : {0.0f, -0.25f}) {
    AttentionProblem p({DType::f32, 9, 1, 16, {150}});
    Answer got{OwnedTensor(DType::f32, p.out_shape()), OwnedTensor(DType::f32, p.lse_shape())};
    AttentionArgs args = p.args(got.out, got.lse);
    args.scale = scale;
    const auto q = to_doubles(p.q), k = to_doubles(p.segments[0].k),
               v = to_doubles(p.segments[0].v);

    attention(args, test_stream());

    const auto expected = reference::attention({9, 150, 1, 16, scale, q, k, v, {}, {}, {}});
    for (size_t i = 0; i < expected.out.size(); ++i)
      CHECK(std::abs(got.out.as<float>()[i] - expected.out[i]) < 1e-5);
  }
}

TEST_CASE("tile lists: only listed tiles count, empty rows give nothing") {
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 400, 2, 64, {300, 345}});
    std::mt19937 random(3);
    const Tiles tiles = make_tiles(p, [&](int64_t head, int64_t i, int64_t) {
      return !(head == 1 && i == 2) && random() % 2;
    });
    const AttentionTiles view = tiles.view();

    const Answer got = run(p, 2, &view);

    CHECK(worst(p, got, oracle(p)) < 1.0);
    for (int64_t i = 0; i < 64; ++i) CHECK(element(got.out, 2 * kTile, 64 + i) == 0.0);
    CHECK(got.lse.as<float>()[400 + 2 * kTile] == -std::numeric_limits<float>::infinity());
  }
}

TEST_CASE("a full tile list is the dense result, to the last bit") {
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 200, 2, 64, {515}});
    const Tiles tiles = make_tiles(p, [](int64_t, int64_t, int64_t) { return true; });
    const AttentionTiles view = tiles.view();

    const Answer listed = run(p, 2, &view), dense = run(p);

    CHECK(same_bits(listed.out, dense.out));
    CHECK(same_bits(listed.lse, dense.lse));
  }
}

TEST_CASE("the number of threads does not change a bit") {
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem p({dtype, 333, 3, 64, {129, 400}, {0.0f, 0.7f}});

    const Answer one = run(p, 1), two = run(p, 2), three = run(p, 3);

    CHECK(same_bits(one.out, two.out));
    CHECK(same_bits(one.out, three.out));
    CHECK(same_bits(one.lse, three.lse));
  }
}

TEST_CASE("a head's bits do not depend on the other heads or the other queries") {
  // Many heads are cut into larger query tiles than few; 40 heads of 200 queries against 1 of 64.
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem p({dtype, 200, 40, 32, {300}});
    const Answer all = run(p);
    const auto head = [](ConstTensor x, int64_t h) {
      return x.reshape({x.dim(0), x.dim(1) * x.dim(2)})
          .columns(h * 32, (h + 1) * 32)
          .reshape({x.dim(0), 1, 32});
    };
    for (const int64_t h : {0, 17, 39}) {
      OwnedTensor out(dtype, {64, 1, 32});
      const KeySegment segment{head(p.segments[0].k, h), head(p.segments[0].v, h)};
      AttentionArgs args;
      args.q = head(p.q, h).rows(100, 164);
      args.segments = {&segment, 1};
      args.out = out;
      args.scale = p.scale();

      attention(args, test_stream());

      for (int64_t query = 0; query < 64; ++query)
        for (int64_t i = 0; i < 32; ++i)
          CHECK(element(out, query, i) == element(all.out, 100 + query, h * 32 + i));
    }
  }
}

TEST_CASE("heads beyond one packing group") {
  // 2 x 8200 x 640 f32 a head: more than half of a group's 64 MiB in f32, so that every head is
  // one.
  check_against_oracle({DType::f32, 3, 3, 640, {8200}});
}

TEST_CASE("two halves of the keys merged by their sums are the whole") {
  const AttentionProblem p({DType::f32, 70, 2, 64, {311, 200}});
  AttentionProblem first({DType::f32, 70, 2, 64, {311}}),
      second = AttentionProblem({DType::f32, 70, 2, 64, {200}});
  first.q = second.q = p.q;
  first.segments = {p.segments[0]};
  second.segments = {p.segments[1]};

  const Answer whole = run(p), a = run(first), b = run(second);

  for (int64_t head = 0; head < 2; ++head) {
    for (int64_t query = 0; query < 70; ++query) {
      const double la = element(a.lse, head, query), lb = element(b.lse, head, query);
      const double lse = std::log(std::exp(la) + std::exp(lb));
      CHECK(element(whole.lse, head, query) == doctest::Approx(lse).epsilon(1e-5));
      for (int64_t i = head * 64; i < (head + 1) * 64; ++i) {
        const double merged = std::exp(la - lse) * element(a.out, query, i) +
                              std::exp(lb - lse) * element(b.out, query, i);
        // Values are below 2 and weights off by less than 5e-6 in each of the three calls.
        CHECK(std::abs(element(whole.out, query, i) - merged) < 3e-5);
      }
    }
  }
}

TEST_CASE("one key: its value") {
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem p({dtype, 3, 2, 24, {1}});
    const Answer got = run(p);
    // The weight is 1 up to the rounding of the logit; it is divided out again. bf16 hides that.
    const double bound = dtype == DType::f32 ? 0x1p-22 : 0.0;
    for (int64_t query = 0; query < 3; ++query) {
      for (int64_t i = 0; i < 48; ++i) {
        const double v = element(p.segments[0].v, 0, i);
        CHECK(std::abs(element(got.out, query, i) - v) <= bound * std::abs(v));
      }
    }
  }
}

TEST_CASE("in bf16 the weights are rounded to bf16 before the second product") {
  // Weights 1 and exp(-2^-10), which rounds to 1: the values 1 and -1 cancel. Without rounding the
  // result is 2^-11.
  OwnedTensor q(DType::bf16, {1, 1, 1}), k(DType::bf16, {2, 1, 1}), v(DType::bf16, {2, 1, 1});
  OwnedTensor out(DType::bf16, {1, 1, 1});
  q.as<bf16>()[0] = to_bf16(1.0f);
  k.as<bf16>()[0] = to_bf16(0.0f);
  k.as<bf16>()[1] = to_bf16(-0x1p-10f);
  v.as<bf16>()[0] = to_bf16(1.0f);
  v.as<bf16>()[1] = to_bf16(-1.0f);
  const KeySegment segment{k, v};
  AttentionArgs args;
  args.q = q;
  args.segments = {&segment, 1};
  args.out = out;

  attention(args, test_stream());

  CHECK(to_float(out.as<bf16>()[0]) == 0.0f);
}

TEST_CASE("NaN in the inputs is seen in the result") {
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 8, 1, 64, {100}});
    OwnedTensor& matrix = p.matrices[0];
    const int64_t at = 3 * p.wide + 2;  // query 3
    if (dtype == DType::f32)
      matrix.as<float>()[at] = std::nanf("");
    else
      matrix.as<bf16>()[at] = to_bf16(std::nanf(""));

    const Answer got = run(p);

    CHECK(std::isnan(element(got.out, 3, 0)));
    CHECK(std::isfinite(element(got.out, 4, 0)));
  }
}

TEST_CASE("wrong arguments: the message says what was expected and what was found") {
  const AttentionProblem p({DType::f32, 4, 2, 16, {10}});
  Answer r{OwnedTensor(DType::f32, p.out_shape()), OwnedTensor(DType::f32, p.lse_shape())};
  const auto message = [&](auto change) -> std::string {
    AttentionArgs args = p.args(r.out, r.lse);
    std::vector<KeySegment> segments = p.segments;
    args.segments = segments;
    change(args, segments);
    try {
      attention(args, test_stream());
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };

  const auto heads = message([](auto&, auto& s) { s[0].k = s[0].k.reshape({10, 32, 1}); });
  CHECK_MESSAGE((has(heads, "[rows, 2, 16]") && has(heads, "[10, 32, 1]")), heads);
  const auto dtype = message([](auto&, auto& s) { s[0].v.dtype = DType::bf16; });
  CHECK_MESSAGE((has(dtype, "f32") && has(dtype, "bf16")), dtype);
  const auto rows = message([](auto&, auto& s) { s[0].v = s[0].v.rows(0, 9); });
  CHECK_MESSAGE((has(rows, "10") && has(rows, "9")), rows);
  const auto none = message([](auto& a, auto&) { a.segments = {}; });
  CHECK_MESSAGE(has(none, "at least one key"), none);
  const auto stride = message([](auto& a, auto&) { a.out.row_stride = 31; });
  CHECK_MESSAGE((has(stride, "32") && has(stride, "31")), stride);
  const std::vector<int64_t> offsets{0, 1, 2};
  const std::vector<int32_t> bad{0, 1};
  const AttentionTiles tiles{offsets, bad};
  const auto tile = message([&](auto& a, auto&) { a.tiles = &tiles; });
  CHECK_MESSAGE((has(tile, "below 1") && has(tile, "found 1")), tile);
}

}  // namespace longtake::testing
