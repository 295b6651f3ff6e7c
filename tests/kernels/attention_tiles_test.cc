// Which keys a tile of the CUDA kernels holds: every key once, in order, never another segment's.
#include "kernels/cuda/attention_tiles.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

namespace longtake::cuda {
namespace {

SegmentBounds bounds_of(const std::vector<int>& rows) {
  SegmentBounds b;
  for (const int n : rows) {
    b.begin[b.count + 1] = b.begin[b.count] + n;
    ++b.count;
  }
  return b;
}

const std::vector<std::vector<int>> kSegments = {
    {1}, {63}, {64}, {65}, {127}, {128}, {129}, {300}, {1, 1, 1}, {128, 1}, {129, 7, 255}, {256, 3},
};

// The keys of a row in the order in which its units hold them.
std::vector<int> keys_by_units(const TileRow& row, int keys) {
  std::vector<int> seen;
  for (int unit = 0; unit < units_of(row, keys); ++unit) {
    const int begin = unit_begin(row, unit);
    CHECK(begin < keys);  // no unit is empty
    for (int key = begin; key < std::min(begin + kAttentionUnit, keys); ++key) seen.push_back(key);
  }
  return seen;
}

}  // namespace

TEST_CASE("a key's segment") {
  for (const auto& rows : kSegments) {
    const SegmentBounds b = bounds_of(rows);
    int key = 0;
    for (int s = 0; s < static_cast<int>(rows.size()); ++s)
      for (int i = 0; i < rows[static_cast<size_t>(s)]; ++i) CHECK(b.of(key++) == s);
    CHECK(b.keys() == key);
  }
}

TEST_CASE("tiles of segments hold every key once, in order, and never span two") {
  for (const auto& rows : kSegments) {
    const SegmentTiles t = segment_tiles(bounds_of(rows));
    int segment = 0, row = 0;
    for (int tile = 0; tile < t.tiles(); ++tile) {
      const SegmentTiles::Place place = t.at(tile);
      if (row == rows[static_cast<size_t>(segment)]) {
        ++segment;
        row = 0;
      }
      CHECK(place.segment == segment);
      CHECK(place.row == row);
      CHECK(0 < place.valid);
      CHECK(place.valid <= kAttentionTile);
      row += place.valid;
      CHECK(row <= rows[static_cast<size_t>(segment)]);
    }
    CHECK(segment == static_cast<int>(rows.size()) - 1);
    CHECK(row == rows.back());
  }
}

TEST_CASE("lists name the tiles of segments when all but the last are whole tiles") {
  for (const auto& rows : kSegments) {
    const SegmentBounds b = bounds_of(rows);
    const SegmentTiles t = segment_tiles(b);
    bool same = t.tiles() == tiles_of(b.keys());
    for (int tile = 0; same && tile < t.tiles(); ++tile) {
      const SegmentTiles::Place place = t.at(tile);
      same = b.begin[place.segment] + place.row == tile * kAttentionTile &&
             place.valid == std::min(kAttentionTile, b.keys() - tile * kAttentionTile);
    }
    CHECK(t.same_as_listed() == same);
  }
}

TEST_CASE("units of all tiles hold every key once, in order") {
  for (const int keys : {1, 63, 64, 65, 127, 128, 129, 192, 193, 300, 1000}) {
    const std::vector<int> seen =
        keys_by_units(tile_row(nullptr, nullptr, 5, tiles_of(keys)), keys);
    CHECK(static_cast<int>(seen.size()) == keys);
    for (int i = 0; i < static_cast<int>(seen.size()); ++i)
      CHECK(seen[static_cast<size_t>(i)] == i);
  }
}

TEST_CASE("units of a list hold the keys of its tiles") {
  // Three rows: tiles 0 and 2; none; tiles 1 and 2. 300 keys: tile 2 has 44, none in its last half.
  const std::vector<int64_t> offsets{0, 2, 2, 4};
  const std::vector<int32_t> listed{0, 2, 1, 2};
  for (const int keys : {300, 330}) {
    for (int row = 0; row < 3; ++row) {
      const TileRow r = tile_row(offsets.data(), listed.data(), row, 3);
      std::vector<int> expected;
      for (int64_t i = offsets[static_cast<size_t>(row)]; i < offsets[static_cast<size_t>(row) + 1];
           ++i)
        for (int key = listed[static_cast<size_t>(i)] * kAttentionTile;
             key < std::min(keys, (listed[static_cast<size_t>(i)] + 1) * kAttentionTile); ++key)
          expected.push_back(key);
      CHECK(keys_by_units(r, keys) == expected);
    }
  }
}

TEST_CASE("rows with most tiles come first, equal ones in their order") {
  CHECK(heavy_first(std::vector<int64_t>{0}).empty());
  CHECK(heavy_first(std::vector<int64_t>{0, 2, 2, 7, 9, 14}) ==
        std::vector<int32_t>{2, 4, 0, 3, 1});
}

}  // namespace longtake::cuda
