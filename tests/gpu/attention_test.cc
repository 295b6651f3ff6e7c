// Every attention kernel of the GPU against the oracle, and what must hold to the last bit. Bounds
// are those of the CPU's tests (tests/kernels/attention_problem.h); the GPU's exponential in bf16
// has a relative error of 2^-22, below the 3e-6 that are allowed there.
#include <limits>
#include <random>

#include "kernels/base/error.h"
#include "kernels/cuda/attention_products.h"
#include "kernels/cuda/device_tiles.h"
#include "tests/gpu/attention_cases.h"

namespace longtake::testing {

TEST_CASE("attention on the GPU: lengths around the edges of tiles") {
  Gpu gpu;
  const int64_t lengths[] = {1, 7, 63, 64, 65, 127, 128, 129, 300, 1000};
  for (const DType dtype : kComputeTypes) {
    for (const int64_t dim : {64, 128}) {
      for (const int64_t keys : lengths) {
        const int count = check_all(gpu, AttentionProblem({dtype, 70, 3, dim, {keys}}));
        if (dtype == DType::bf16 && hopper(gpu)) CHECK(count == 4);
      }
      for (const int64_t queries : lengths)
        check_all(gpu, AttentionProblem({dtype, queries, 1, dim, {200}}));
      check_all(gpu, AttentionProblem({dtype, 1000, 1, dim, {1000}}));
    }
  }
}

TEST_CASE("attention on the GPU: head sizes") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes)
    for (const int64_t dim : {1, 3, 8, 12, 16, 32, 40, 64, 80, 96, 112, 128, 192, 256, 384, 512})
      for (const int64_t heads : {1, 3})
        CHECK(check_all(gpu, AttentionProblem({dtype, 130, heads, dim, {200}})) > 0);
  check_all(gpu, AttentionProblem({DType::f32, 1000, 1, 384, {1000}}));
}

TEST_CASE("attention on the GPU: segments, each with a bias") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    for (const int64_t dim : {32, 64, 128}) {
      check_all(gpu, AttentionProblem({dtype, 65, 2, dim, {129, 7}}));
      check_all(gpu, AttentionProblem({dtype, 33, 2, dim, {1, 63, 200}}));
      check_all(gpu, AttentionProblem({dtype, 130, 2, dim, {128, 512}, {0.5f, -0.25f}}));
      check_all(gpu, AttentionProblem({dtype, 33, 2, dim, {130, 0, 65}, {0.0f, 1.0f, 1.0986f}}));
      check_all(gpu, AttentionProblem({dtype, 300, 3, dim, {255, 2, 3}, {-1.5f, 0.0f, 2.0f}}));
    }
  }
}

TEST_CASE("attention on the GPU: a segment of bias -infinity is not seen") {
  Gpu gpu;
  const float none = -std::numeric_limits<float>::infinity();
  for (const DType dtype : kComputeTypes) {
    check_all(gpu, AttentionProblem({dtype, 65, 2, 64, {129, 70}, {none, 0.0f}}));
    check_all(gpu, AttentionProblem({dtype, 65, 2, 128, {300, 70}, {0.0f, none}}));
    check_all(gpu, AttentionProblem({dtype, 65, 2, 128, {130}, {none}}));
  }
}

TEST_CASE("attention on the GPU: a dense bias; -infinity hides keys") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    CHECK(check_all(gpu, AttentionProblem({dtype, 65, 2, 64, {77, 200}, {}, true})) == 1);
    AttentionProblem masked({dtype, 4, 2, 64, {301}, {}, true});
    float* bias = masked.bias.as<float>();
    for (int64_t i = 0; i < masked.bias.numel(); ++i) {
      const int64_t query = i / 301 % 4, key = i % 301;
      // Query 0 sees nothing, query 1 only the last key, query 2 nothing of the first tiles.
      if (query == 0 || (query == 1 && key < 300) || (query == 2 && key < 260))
        bias[i] = -std::numeric_limits<float>::infinity();
    }
    CHECK(check_all(gpu, masked) == 1);
  }
}

TEST_CASE("attention on the GPU: strided rows") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    for (const int64_t dim : {64, 128}) {
      const int count =
          check_all(gpu, AttentionProblem({dtype, 150, 3, dim, {200, 131}}), Rows::strided);
      if (dtype == DType::bf16 && hopper(gpu)) CHECK(count == 4);
    }
    check_all(gpu, AttentionProblem({dtype, 150, 3, 40, {200}}), Rows::strided);
    check_all(gpu, AttentionProblem({dtype, 150, 3, 5, {200}}), Rows::strided);
    check_all(gpu, AttentionProblem({dtype, 1, 3, 64, {1}}), Rows::strided);
  }
}

TEST_CASE("attention on the GPU: lists of tiles, rows without any") {
  Gpu gpu;
  const std::vector<int64_t> odd{300, 345}, whole{256, 345}, one{1000};
  for (const DType dtype : kComputeTypes) {
    for (const int64_t dim : {32, 64, 128}) {
      for (const auto& segments : {odd, whole, one}) {
        AttentionProblem p(
            {dtype, 400, 2, dim, segments, std::vector<float>(segments.size(), 0.3f)});
        std::mt19937 random(3);
        const Tiles tiles = make_tiles(p, [&](int64_t head, int64_t i, int64_t) {
          return !(head == 1 && i == 2) && random() % 2;
        });
        const AttentionTiles view = tiles.view();
        const int count = check_all(gpu, p, Rows::dense, &view);
        if (dtype == DType::bf16 && hopper(gpu) && dim >= 64)
          CHECK(count == (segments == odd ? 2 : 4));
      }
    }
  }
}

TEST_CASE("attention on the GPU: a list of every tile is the dense result, to the last bit") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 400, 2, 128, {256, 515}});
    const Tiles tiles = make_tiles(p, [](int64_t, int64_t, int64_t) { return true; });
    const AttentionTiles view = tiles.view();
    OnGpu on(gpu, p, Rows::dense);
    for (const AttentionProvider provider : kProviders) {
      on.args().tiles = nullptr;
      if (provider == AttentionProvider::cudnn || !on.can(provider)) continue;
      CAPTURE(cuda::name(provider));
      const Answer dense = on.run(provider);
      on.args().tiles = &view;
      const Answer listed = on.run(provider);
      CHECK(same_bits(dense.out, listed.out));
      CHECK(same_bits(dense.lse, listed.lse));
    }
  }
}

TEST_CASE("attention on the GPU: lists that are there already, the same bits as copied ones") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 700, 3, 128, {256, 515}});
    std::mt19937 random(5);
    const Tiles tiles =
        make_tiles(p, [&](int64_t, int64_t i, int64_t) { return random() % 5 > uint64_t(i % 3); });
    AttentionTiles view = tiles.view();
    const cuda::DeviceTiles there(view, gpu.queue());
    CHECK(there.rows() == 18);
    CHECK(there.listed() == tiles.keys.size());
    OnGpu on(gpu, p, Rows::dense);
    on.args().tiles = &view;
    for (const AttentionProvider provider : kProviders) {
      if (provider == AttentionProvider::cudnn || !on.can(provider)) continue;
      CAPTURE(cuda::name(provider));
      view.on_device = nullptr;
      const Answer copied = on.run(provider);
      view.on_device = &there;
      for (int i = 0; i < 2; ++i) {
        const Answer listed = on.run(provider);
        CHECK(same_bits(copied.out, listed.out));
        CHECK(same_bits(copied.lse, listed.lse));
      }
    }
  }
}

TEST_CASE("attention on the GPU: many lists in a row, none overwrites another on its way") {
  Gpu gpu;
  AttentionProblem p({DType::bf16, 256, 1, 64, {512}});
  OnGpu on(gpu, p, Rows::dense);
  std::vector<Answer> expected;
  std::vector<Tiles> lists;
  for (int64_t keep = 0; keep < 4; ++keep) {
    lists.push_back(make_tiles(p, [&](int64_t, int64_t, int64_t j) { return j == keep; }));
    const AttentionTiles view = lists.back().view();
    on.args().tiles = &view;
    expected.push_back(on.run(AttentionProvider::automatic));
  }
  std::vector<OwnedTensor> out;
  for (size_t i = 0; i < 40; ++i) {
    const AttentionTiles view = lists[i % 4].view();
    out.emplace_back(DType::bf16, p.out_shape(), gpu.stream().device());
    AttentionArgs args = on.args();
    args.tiles = &view;
    args.lse = {};
    args.out = out.back();
    cuda::attention(args, gpu.queue());
  }
  for (size_t i = 0; i < out.size(); ++i) CHECK(same_bits(gpu.down(out[i]), expected[i % 4].out));
}

TEST_CASE("attention on the GPU: lists that are there for another call are refused") {
  Gpu gpu;
  AttentionProblem p({DType::f32, 300, 1, 64, {300}}), other({DType::f32, 300, 1, 64, {600}});
  const Tiles tiles = make_tiles(p, [](int64_t, int64_t, int64_t) { return true; });
  const Tiles wide = make_tiles(other, [](int64_t, int64_t, int64_t j) { return j >= 2; });
  OnGpu on(gpu, p, Rows::dense);
  OwnedTensor out(DType::f32, p.out_shape(), gpu.stream().device());
  on.args().out = out;
  const cuda::DeviceTiles there(wide.view(), gpu.queue());
  CHECK(wide.keys.size() == tiles.keys.size());
  AttentionTiles view = tiles.view();
  view.on_device = &there;
  on.args().tiles = &view;
  CHECK_THROWS_AS(attention(on.args(), gpu.stream()), Error);
}

TEST_CASE("attention on the GPU: the same bits each time, from both wgmma schedules") {
  Gpu gpu;
  for (const int64_t dim : {64, 128}) {
    const AttentionProblem p({DType::bf16, 3000, 4, dim, {2500, 513}, {0.2f, -0.2f}});
    OnGpu on(gpu, p, Rows::dense);
    for (const AttentionProvider provider : kProviders) {
      if (provider == AttentionProvider::cudnn || !on.can(provider)) continue;
      CAPTURE(cuda::name(provider));
      const Answer first = on.run(provider);
      for (int i = 0; i < 5; ++i) {
        const Answer again = on.run(provider);
        CHECK(same_bits(first.out, again.out));
        CHECK(same_bits(first.lse, again.lse));
      }
    }
    if (!on.can(AttentionProvider::wgmma)) continue;
    const Answer simple = on.run(AttentionProvider::wgmma_simple);
    const Answer pipelined = on.run(AttentionProvider::wgmma);
    CHECK(same_bits(simple.out, pipelined.out));
    CHECK(same_bits(simple.lse, pipelined.lse));
  }
}

TEST_CASE("attention on the GPU: a head's bits do not depend on the other heads") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    const AttentionProblem p({dtype, 300, 5, 128, {400}});
    OnGpu on(gpu, p, Rows::dense);
    const ConstTensor q = on.args().q, k = on.args().segments[0].k, v = on.args().segments[0].v;
    const auto head = [](ConstTensor x, int64_t h) {
      return x.reshape({x.dim(0), x.dim(1) * x.dim(2)})
          .columns(h * 128, (h + 1) * 128)
          .reshape({x.dim(0), 1, 128});
    };
    for (const AttentionProvider provider : kProviders) {
      if (provider == AttentionProvider::cudnn || !on.can(provider)) continue;
      CAPTURE(cuda::name(provider));
      const Answer all = on.run(provider);
      for (const int64_t h : {0, 3, 4}) {
        OwnedTensor out(dtype, {300, 1, 128}, gpu.stream().device());
        const KeySegment segment{head(k, h), head(v, h)};
        AttentionArgs args;
        args.q = head(q, h);
        args.segments = {&segment, 1};
        args.out = out;
        args.scale = p.scale();
        cuda::attention(args, gpu.queue(), provider);
        const OwnedTensor got = gpu.down(out);
        int different = 0;
        for (int64_t query = 0; query < 300; ++query)
          for (int64_t i = 0; i < 128; ++i)
            different += element(got, query, i) != element(all.out, query, h * 128 + i);
        CHECK(different == 0);
      }
    }
  }
}

TEST_CASE("attention on the GPU: NaN of a query is seen in its result only") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    AttentionProblem p({dtype, 8, 1, 64, {100}});
    const int64_t at = 3 * p.wide + 2;  // query 3
    if (dtype == DType::f32)
      p.matrices[0].as<float>()[at] = std::nanf("");
    else
      p.matrices[0].as<bf16>()[at] = to_bf16(std::nanf(""));
    OnGpu on(gpu, p, Rows::dense);
    for (const AttentionProvider provider : kProviders) {
      if (provider == AttentionProvider::cudnn || !on.can(provider)) continue;
      CAPTURE(cuda::name(provider));
      const Answer got = on.run(provider);
      CHECK(std::isnan(element(got.out, 3, 0)));
      CHECK(std::isfinite(element(got.out, 4, 0)));
    }
  }
}

TEST_CASE("attention on the GPU: a scale may be zero or negative") {
  Gpu gpu;
  const AttentionProblem p({DType::bf16, 9, 1, 64, {150}});
  const auto q = to_doubles(p.q), k = to_doubles(p.segments[0].k), v = to_doubles(p.segments[0].v);
  for (const float scale : {0.0f, -0.25f}) {
    OnGpu on(gpu, p, Rows::dense);
    on.args().scale = scale;
    const Answer got = on.run(AttentionProvider::automatic);
    const auto expected = reference::attention({9, 150, 1, 64, scale, q, k, v, {}, {}, {}});
    // Values are below 2; the weights and the result are rounded to bf16.
    for (int64_t i = 0; i < 9 * 64; ++i)
      CHECK(std::abs(element(got.out, 0, i) - expected.out[static_cast<size_t>(i)]) < 4 * 0x1p-8);
  }
}

TEST_CASE("attention on the GPU: a provider that cannot says why") {
  Gpu gpu;
  const AttentionProblem p({DType::f32, 4, 1, 520, {10, 3}});
  OnGpu on(gpu, p, Rows::dense);
  CHECK_THROWS_AS(on.run(AttentionProvider::mma), Error);
  CHECK_THROWS_AS(on.run(AttentionProvider::plain), Error);
  CHECK_THROWS_AS(on.run(AttentionProvider::automatic), Error);
}

TEST_CASE("attention on the GPU by products agrees with the oracle") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes)
    for (const int64_t dim : {40, 513, 1024})
      for (const int64_t keys : {7, 129, 300})
        for (const int64_t heads : {1, 2})
          for (const Rows rows : {Rows::dense, Rows::strided}) {
            CAPTURE(name(dtype));
            CAPTURE(dim);
            CAPTURE(keys);
            CAPTURE(heads);
            const AttentionProblem p({dtype, 70, heads, dim, {keys}});
            const Expected expected = oracle(p);
            OnGpu on(gpu, p, rows);
            const Answer got = on.run(AttentionProvider::products);
            CHECK(worst(p, got, expected) < 1.0);
            // Parts of 3 queries, the last one of 1.
            const Answer parts = on.run_by([&] {
              cuda::attention_by_products(on.args(), gpu.queue(), 3 * 4 * ((keys + 7) / 8 * 8));
            });
            CHECK(worst(p, parts, expected) < 1.0);
            const Answer again =
                on.run(dim > 512 ? AttentionProvider::automatic : AttentionProvider::products);
            CHECK(same_bits(got.out, again.out));
            CHECK(same_bits(got.lse, again.lse));
          }
}

TEST_CASE("attention on the GPU by products: one query, one key, an empty segment, NaN") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes) {
    for (const auto& segments : std::vector<std::vector<int64_t>>{{1}, {0, 9}, {130, 0}})
      for (const int64_t queries : {1, 5}) {
        const AttentionProblem p({dtype, queries, 1, 1024, segments});
        OnGpu on(gpu, p, Rows::dense);
        CHECK(worst(p, on.run(AttentionProvider::automatic), oracle(p)) < 1.0);
      }
    AttentionProblem p({dtype, 8, 1, 1024, {100}});
    const int64_t at = 3 * p.wide + 2;  // query 3
    if (dtype == DType::f32)
      p.matrices[0].as<float>()[at] = std::nanf("");
    else
      p.matrices[0].as<bf16>()[at] = to_bf16(std::nanf(""));
    OnGpu on(gpu, p, Rows::dense);
    const Answer got = on.run(AttentionProvider::automatic);
    CHECK(std::isnan(element(got.out, 3, 0)));
    CHECK(std::isfinite(element(got.out, 4, 0)));
  }
}

TEST_CASE("attention on the GPU by products: what it cannot do is refused") {
  Gpu gpu;
  const AttentionProblem two({DType::f32, 4, 1, 1024, {10, 3}});
  const AttentionProblem biased({DType::f32, 4, 1, 1024, {10}, {0.5f}});
  const AttentionProblem dense({DType::f32, 4, 1, 1024, {10}, {}, true});
  for (const AttentionProblem* p : {&two, &biased, &dense}) {
    OnGpu on(gpu, *p, Rows::dense);
    CHECK_FALSE(on.can(AttentionProvider::products));
    CHECK_THROWS_AS(on.run(AttentionProvider::automatic), Error);
  }
}

}  // namespace longtake::testing
