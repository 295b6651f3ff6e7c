// Which keys a tile of the CUDA attention kernels holds: integer arithmetic that host and device
// share. Keys count over the segments one after the other; a list names tiles of 128 keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#ifdef __CUDACC__
#define LT_HOST_DEVICE __host__ __device__
#else
#define LT_HOST_DEVICE
#endif

namespace longtake::cuda {

constexpr int kAttentionTile = 128;     // keys of a listed tile; queries of a row of lists
constexpr int kAttentionSegments = 16;  // most segments that hold a key, of a call

// Segments that hold a key: segment s has the keys begin[s] .. begin[s + 1] - 1.
struct SegmentBounds {
  int count = 0;
  int begin[kAttentionSegments + 1] = {};

  LT_HOST_DEVICE int keys() const { return begin[count]; }
  // The segment of a key below keys().
  LT_HOST_DEVICE int of(int key) const {
    int s = 0;
    while (s + 1 < count && key >= begin[s + 1]) ++s;
    return s;
  }
};

// The tiles of one head and query tile, in the order in which they are worked on: all of them
// (keys == nullptr) or those of a list.
struct TileRow {
  const int32_t* keys = nullptr;
  int count = 0;

  LT_HOST_DEVICE int tile(int i) const { return keys ? keys[i] : i; }
};

// Tiles that hold `keys` keys.
LT_HOST_DEVICE inline int tiles_of(int keys, int width = kAttentionTile) {
  return (keys + width - 1) / width;
}

// offsets == nullptr: every tile of `keys` keys. `row` is head * query_tiles + query tile.
LT_HOST_DEVICE inline TileRow tile_row(const int64_t* offsets, const int32_t* listed, int row,
                                       int tiles) {
  if (!offsets) return {nullptr, tiles};
  return {listed + offsets[row], static_cast<int>(offsets[row + 1] - offsets[row])};
}

// Rows of most tiles first, so that none of them starts last; equal ones in their order.
inline std::vector<int32_t> heavy_first(std::span<const int64_t> offsets) {
  std::vector<int32_t> order(offsets.size() - 1);
  std::iota(order.begin(), order.end(), 0);
  const auto count = [&](int32_t row) {
    return offsets[static_cast<size_t>(row) + 1] - offsets[static_cast<size_t>(row)];
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return count(a) > count(b); });
  return order;
}

// A row's tiles cut into units of half a tile, less the last half when it holds no key.
constexpr int kAttentionUnit = 64;

LT_HOST_DEVICE inline int units_of(const TileRow& row, int keys) {
  if (row.count == 0) return 0;
  const int last = row.tile(row.count - 1) * kAttentionTile;
  return 2 * row.count - (keys - last <= kAttentionUnit ? 1 : 0);
}
LT_HOST_DEVICE inline int unit_begin(const TileRow& row, int unit) {
  return row.tile(unit / 2) * kAttentionTile + unit % 2 * kAttentionUnit;
}

// Tiles that never span segments: each segment is cut on its own. tile_begin[s] is the number of
// the first tile of segment s.
struct SegmentTiles {
  SegmentBounds bounds;
  int tile_begin[kAttentionSegments + 1] = {};

  struct Place {
    int segment, row, valid;  // rows row .. row + valid - 1 of the segment, valid <= 128
  };
  LT_HOST_DEVICE int tiles() const { return tile_begin[bounds.count]; }
  LT_HOST_DEVICE Place at(int tile) const {
    int s = 0;
    while (s + 1 < bounds.count && tile >= tile_begin[s + 1]) ++s;
    const int row = (tile - tile_begin[s]) * kAttentionTile;
    const int left = bounds.begin[s + 1] - bounds.begin[s] - row;
    return {s, row, left < kAttentionTile ? left : kAttentionTile};
  }
  // Are these the tiles over all keys, so that lists name them too?
  bool same_as_listed() const {
    for (int s = 1; s < bounds.count; ++s)
      if (bounds.begin[s] % kAttentionTile) return false;
    return true;
  }
};

inline SegmentTiles segment_tiles(const SegmentBounds& bounds) {
  SegmentTiles t;
  t.bounds = bounds;
  for (int s = 0; s < bounds.count; ++s)
    t.tile_begin[s + 1] = t.tile_begin[s] + tiles_of(bounds.begin[s + 1] - bounds.begin[s]);
  return t;
}

}  // namespace longtake::cuda
