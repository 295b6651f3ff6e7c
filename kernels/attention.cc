#include "kernels/attention.h"

#include "kernels/cpu/attention.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_tiles.h"
#include "kernels/cuda/range.h"

namespace longtake {

namespace {

void check_rows(const char* what, const ConstTensor& x, const ConstTensor& q) {
  LT_CHECK(x.rank() == 3 && x.dim(1) == q.dim(1) && x.dim(2) == q.dim(2),
           "{}: expected [rows, {}, {}] (heads and head_dim of q), found {}", what, q.dim(1),
           q.dim(2), x.shape.text());
  LT_CHECK(x.dtype == q.dtype, "{}: expected the dtype of q, {}, found {}", what, name(q.dtype),
           name(x.dtype));
  LT_CHECK(x.dim(0) <= 1 || x.row_stride >= x.shape.inner_numel(),
           "{}: expected a row stride of at least {}, found {}", what, x.shape.inner_numel(),
           x.row_stride);
  LT_CHECK(x || x.numel() == 0, "{}: expected data for {}, found none", what, x.shape.text());
}

void check_f32(const char* what, const ConstTensor& x, const Shape& shape) {
  LT_CHECK(x.shape == shape, "{}: expected {}, found {}", what, shape.text(), x.shape.text());
  LT_CHECK(x.dtype == DType::f32, "{}: expected f32, found {}", what, name(x.dtype));
  LT_CHECK(x.dim(0) <= 1 || x.row_stride >= x.shape.inner_numel(),
           "{}: expected a row stride of at least {}, found {}", what, x.shape.inner_numel(),
           x.row_stride);
}

int64_t check_segments(const AttentionArgs& args) {
  int64_t keys = 0;
  for (const KeySegment& segment : args.segments) {
    check_rows("attention k", segment.k, args.q);
    check_rows("attention v", segment.v, args.q);
    LT_CHECK(segment.k.dim(0) == segment.v.dim(0),
             "attention: expected as many rows of v as of k, {}, found {}", segment.k.dim(0),
             segment.v.dim(0));
    keys += segment.k.dim(0);
  }
  LT_CHECK(keys > 0, "attention: expected at least one key, found none in {} segments",
           args.segments.size());
  return keys;
}

void check_lists(const AttentionTiles& tiles, int64_t key_tiles) {
  const size_t rows = tiles.offsets.size() - 1;
  for (size_t row = 0; row < rows; ++row) {
    const int64_t begin = tiles.offsets[row], end = tiles.offsets[row + 1];
    LT_CHECK(begin <= end && end <= tiles.offsets[rows],
             "attention tiles: expected ascending offsets, found {} then {} at row {}", begin, end,
             row);
    int64_t last = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t tile = tiles.keys[static_cast<size_t>(i)];
      LT_CHECK(
          last < tile && tile < key_tiles,
          "attention tiles: expected ascending key tiles below {}, found {} after {} at row {}",
          key_tiles, tile, last, row);
      last = tile;
    }
  }
}

void check_tiles(const AttentionTiles& tiles, int64_t heads, int64_t queries, int64_t keys) {
  const int64_t query_tiles = (queries + AttentionTiles::kTile - 1) / AttentionTiles::kTile;
  const int64_t key_tiles = (keys + AttentionTiles::kTile - 1) / AttentionTiles::kTile;
  const auto rows = static_cast<size_t>(heads * query_tiles);
  LT_CHECK(tiles.offsets.size() == rows + 1,
           "attention tiles: expected {} offsets ({} heads x {} query tiles + 1), found {}",
           rows + 1, heads, query_tiles, tiles.offsets.size());
  LT_CHECK(tiles.offsets[0] == 0 && tiles.offsets[rows] == static_cast<int64_t>(tiles.keys.size()),
           "attention tiles: expected offsets from 0 to {}, found {} to {}", tiles.keys.size(),
           tiles.offsets[0], tiles.offsets[rows]);
  if (!tiles.on_device) return check_lists(tiles, key_tiles);
  // Its lists were looked at when they were copied.
  const cuda::DeviceTiles& there = *tiles.on_device;
  LT_CHECK(
      there.rows() == rows && there.listed() == tiles.keys.size() && there.last_tile() < key_tiles,
      "attention tiles: expected {} rows with {} key tiles below {} on the GPU, found {} with "
      "{} up to {}",
      rows, tiles.keys.size(), key_tiles, there.rows(), there.listed(), there.last_tile());
}

}  // namespace

void attention(const AttentionArgs& args, StreamRef stream) {
  const ConstTensor& q = args.q;
  LT_CHECK(q.rank() == 3 && q.dim(1) > 0 && q.dim(2) > 0,
           "attention q: expected [queries, heads, head_dim], found {}", q.shape.text());
  LT_CHECK(q.dtype == DType::f32 || q.dtype == DType::bf16,
           "attention q: expected f32 or bf16, found {}", name(q.dtype));
  check_rows("attention q", q, q);
  check_rows("attention out", args.out, q);
  LT_CHECK(args.out.dim(0) == q.dim(0), "attention out: expected {} rows, found {}", q.dim(0),
           args.out.dim(0));
  const int64_t keys = check_segments(args);
  if (args.lse) check_f32("attention lse", args.lse, {q.dim(1), q.dim(0)});
  if (args.bias) check_f32("attention bias", args.bias, {q.dim(1), q.dim(0), keys});
  if (args.tiles) check_tiles(*args.tiles, q.dim(1), q.dim(0), keys);
  const TimedWork timed(stream, &WorkClock::attention_s);
  if (q.dim(0) == 0) return;
  if (!stream.on_gpu()) return cpu::attention(args, stream.pool());
  const cuda::Range range("attention");
  cuda::attention(args, stream.cuda());
}

}  // namespace longtake
