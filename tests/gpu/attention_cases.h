// An attention problem on the GPU, what its kernels answer, and lists of tiles.
#pragma once

#include <doctest/doctest.h>

#include <cstring>

#include "kernels/cuda/attention.h"
#include "tests/gpu/gpu.h"
#include "tests/kernels/attention_problem.h"

namespace longtake::testing {

using cuda::AttentionProvider;

constexpr int64_t kTile = AttentionTiles::kTile;
// Products, which take fewer problems, have tests of their own.
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

  Answer run(AttentionProvider provider) {
    return run_by([&] { cuda::attention(args_, gpu_.queue(), provider); });
  }
  // The results were NaN before, and are NaN where nothing was written.
  template <class Call>
  Answer run_by(const Call& call) {
    const int64_t columns = width() + (rows_ == Rows::strided ? 16 : 0),
                  left = (columns - width()) / 2;
    OwnedTensor out = gpu_.up(poison(p_.spec.dtype, {p_.spec.queries, columns}));
    OwnedTensor lse = gpu_.up(poison(DType::f32, p_.lse_shape()));
    args_.out = out.view().columns(left, left + width()).reshape(p_.out_shape());
    args_.lse = lse;
    call();
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
inline int check_all(Gpu& gpu, const AttentionProblem& p, Rows rows = Rows::dense,
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

inline bool hopper(Gpu& gpu) {
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

}  // namespace longtake::testing
