// Every attention kernel of the GPU against the oracle, and what must hold to the last bit. Bounds
// are those of the CPU's tests (tests/kernels/attention_problem.h); the GPU's exponential in bf16
// has a relative error of 2^-22, below the 3e-6 that are allowed there.
#include "kernels/cuda/attention.h"

#include <doctest/doctest.h>

#include <limits>
#include <random>

#include "kernels/base/error.h"
#include "kernels/cuda/device_tiles.h"
#include "tests/gpu/gpu.h"
#include "tests/kernels/attention_problem.h"

namespace longtake::testing {
namespace {

using cuda::AttentionProvider;

constexpr int64_t kTile = AttentionTiles::kTile;
constexpr AttentionProvider kProviders[] = {AttentionProvider::plain, AttentionProvider::mma,
                                            AttentionProvider::wgmma_simple,
                                            AttentionProvider::wgmma, AttentionProvider::cudnn};

// How rows lie in device memory: dense, or as columns of a matrix of queries, keys and values.
enum class Rows { dense, strided };

// A problem's tensors on the device. Strided rows start at multiples of 16 bytes when heads * dim
// is a multiple of 8.
class OnGpu {
 public:
  OnGpu(Gpu& gpu, const AttentionProblem& p, Rows rows) : gpu_(gpu), p_(p), rows_(rows) {
    q_ = up(p.q, rows, 0);
    for (const KeySegment& segment : p.segments) {
      keys_.push_back(up(segment.k, rows, 1));
      values_.push_back(up(segment.v, rows, 2));
    }
    for (size_t i = 0; i < keys_.size(); ++i)
      segments_.push_back(
          {view(keys_[i], rows, 1), view(values_[i], rows, 2), p.segments[i].logit_bias});
    if (p.spec.bias) bias_ = gpu.up(p.bias);
    args_.q = view(q_, rows, 0);
    args_.segments = segments_;
    args_.scale = p.scale();
    if (p.spec.bias) args_.bias = bias_;
  }

  AttentionArgs& args() { return args_; }
  bool can(AttentionProvider provider) {
    return cuda::attention_obstacle(args_, gpu_.queue(), provider).empty();
  }

  // The results were NaN before, and are NaN where nothing was written.
  Answer run(AttentionProvider provider) {
    const int64_t columns = width() + (rows_ == Rows::strided ? 16 : 0),
                  left = (columns - width()) / 2;
    OwnedTensor out = gpu_.up(poison(p_.spec.dtype, {p_.spec.queries, columns}));
    OwnedTensor lse = gpu_.up(poison(DType::f32, p_.lse_shape()));
    args_.out = out.view().columns(left, left + width()).reshape(p_.out_shape());
    args_.lse = lse;
    cuda::attention(args_, gpu_.queue(), provider);
    const OwnedTensor wide = gpu_.down(out);
    Answer answer{OwnedTensor(p_.spec.dtype, p_.out_shape()), gpu_.down(lse)};
    const size_t size = size_bytes(p_.spec.dtype), bytes = static_cast<size_t>(width()) * size;
    int touched = 0;
    for (int64_t i = 0; i < p_.spec.queries; ++i) {
      const auto* row =
          static_cast<const char*>(wide.view().data) + static_cast<size_t>(i * columns) * size;
      std::memcpy(static_cast<char*>(answer.out.view().data) + static_cast<size_t>(i) * bytes,
                  row + static_cast<size_t>(left) * size, bytes);
      for (int64_t c = 0; c < columns; ++c)
        if (c < left || c >= left + width()) touched += !std::isnan(element(wide, i, c));
    }
    CHECK(touched == 0);
    return answer;
  }

 private:
  static OwnedTensor poison(DType dtype, Shape shape) {
    OwnedTensor x(dtype, shape);
    std::memset(x.view().data, 0xff, x.bytes());
    return x;
  }
  int64_t width() const { return p_.spec.heads * p_.spec.dim; }
  // Part 0, 1 or 2 of a matrix three times as wide plus 16 columns, the others NaN.
  OwnedTensor up(ConstTensor x, Rows rows, int64_t part) {
    if (rows == Rows::dense) return gpu_.up(x);
    const int64_t size = static_cast<int64_t>(size_bytes(x.dtype));
    OwnedTensor wide = poison(x.dtype, {x.dim(0), 3 * width() + 16});
    for (int64_t i = 0; i < x.dim(0); ++i)
      std::memcpy(static_cast<char*>(wide.view().data) +
                      (i * (3 * width() + 16) + 8 + part * width()) * size,
                  static_cast<const char*>(x.data) + i * x.row_stride * size,
                  static_cast<size_t>(width() * size));
    return gpu_.up(wide);
  }
  ConstTensor view(const OwnedTensor& x, Rows rows, int64_t part) const {
    const ConstTensor all = x.view();
    if (rows == Rows::dense) return all;
    return all.columns(8 + part * width(), 8 + (part + 1) * width())
        .reshape({x.dim(0), p_.spec.heads, p_.spec.dim});
  }

  Gpu& gpu_;
  const AttentionProblem& p_;
  Rows rows_;
  OwnedTensor q_, bias_;
  std::vector<OwnedTensor> keys_, values_;
  std::vector<KeySegment> segments_;
  AttentionArgs args_;
};

// Every provider that can; returns how many could.
int check_all(Gpu& gpu, const AttentionProblem& p, Rows rows = Rows::dense,
              const AttentionTiles* tiles = nullptr) {
  const Expected expected = oracle(p);
  OnGpu on(gpu, p, rows);
  on.args().tiles = tiles;
  int count = 0;
  for (const AttentionProvider provider : kProviders) {
    // cuDNN has no plan for some shapes and tests of its own.
    if (provider == AttentionProvider::cudnn || !on.can(provider)) continue;
    CAPTURE(cuda::name(provider));
    CAPTURE(name(p.spec.dtype));
    CAPTURE(p.spec.queries);
    CAPTURE(p.spec.keys());
    CAPTURE(p.spec.heads);
    CAPTURE(p.spec.dim);
    CHECK(worst(p, on.run(provider), expected) < 1.0);
    ++count;
  }
  return count;
}

bool hopper(Gpu& gpu) {
  return gpu.queue().info().compute_major == 9 && gpu.queue().info().compute_minor == 0;
}

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
  const AttentionProblem p({DType::f32, 4, 1, 520, {10}});
  OnGpu on(gpu, p, Rows::dense);
  CHECK_THROWS_AS(on.run(AttentionProvider::mma), Error);
  CHECK_THROWS_AS(on.run(AttentionProvider::automatic), Error);
}

}  // namespace longtake::testing
