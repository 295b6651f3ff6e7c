// Spatial tiles of the VAE decoder: what they are, and how far they are from the whole picture.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/model/small_vae.h"
#include "tests/support/expect_error.h"

namespace longtake::testing {
namespace {

bool same_bits(const OwnedTensor& a, const OwnedTensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.as<float>(), b.as<float>(), a.bytes()) == 0;
}

// Rows and columns of latents [frames, z, h, w].
OwnedTensor part(ConstTensor x, const TileSpan& rows, const TileSpan& columns) {
  OwnedTensor out(DType::f32,
                  {x.dim(0), x.dim(1), rows.end - rows.begin, columns.end - columns.begin});
  float* to = out.as<float>();
  for (int64_t plane = 0; plane < x.dim(0) * x.dim(1); ++plane)
    for (int64_t y = rows.begin; y < rows.end; ++y, to += columns.end - columns.begin)
      std::copy_n(x.as<float>() + (plane * x.dim(2) + y) * x.dim(3) + columns.begin,
                  columns.end - columns.begin, to);
  return out;
}

// What each tile alone makes of its part, and the part of it in a pixel, written down again.
struct Tiles {
  int64_t scale;
  std::vector<TileSpan> rows, columns;
  std::vector<OwnedTensor> alone;

  Tiles(SmallVae& vae, ConstTensor latents, int64_t side)
      : scale(vae.config.spatial_factor),
        rows(tile_spans(latents.dim(2), side, side * 3 / 4)),
        columns(tile_spans(latents.dim(3), side, side * 3 / 4)) {
    for (const TileSpan& r : rows)
      for (const TileSpan& c : columns) alone.push_back(whole_pictures(vae, part(latents, r, c)));
  }

  // In pixels: 1 inside, falling to 0 towards a neighbour over what both cover. Patches fade whole.
  static double share(const std::vector<TileSpan>& spans, size_t i, int64_t pixel, int64_t scale,
                      int64_t patch) {
    const double at = static_cast<double>(pixel / patch * patch) / static_cast<double>(scale);
    const auto number = [](int64_t x) { return static_cast<double>(x); };
    double out = at >= number(spans[i].begin) && at < number(spans[i].end) ? 1 : 0;
    if (i > 0 && pixel < spans[i - 1].end * scale)
      out *= (at - number(spans[i].begin)) / number(spans[i - 1].end - spans[i].begin);
    if (i + 1 < spans.size() && pixel >= spans[i + 1].begin * scale)
      out *= 1 - (at - number(spans[i + 1].begin)) / number(spans[i].end - spans[i + 1].begin);
    return out;
  }

  // f(weight, value) for every tile that has a part in pixel (y, x) of frame t.
  template <class F>
  void visit(int64_t t, int64_t y, int64_t x, int64_t channel, int64_t patch, F f) const {
    for (size_t i = 0; i < rows.size(); ++i)
      for (size_t j = 0; j < columns.size(); ++j) {
        const double weight = share(rows, i, y, scale, patch) * share(columns, j, x, scale, patch);
        const OwnedTensor& p = alone[i * columns.size() + j];
        const int64_t r = y - rows[i].begin * scale, c = x - columns[j].begin * scale;
        if (weight > 0) f(weight, p.as<float>()[((t * p.dim(1) + r) * p.dim(2) + c) * 3 + channel]);
      }
  }
};

template <class F>
void for_each_value(const OwnedTensor& x, F f) {
  int64_t i = 0;
  for (int64_t t = 0; t < x.dim(0); ++t)
    for (int64_t row = 0; row < x.dim(1); ++row)
      for (int64_t column = 0; column < x.dim(2); ++column)
        for (int64_t c = 0; c < 3; ++c) f(i++, t, row, column, c);
}

}  // namespace

TEST_CASE("tile_spans cover a side, three quarters apart, and none is needless") {
  using Spans = std::vector<TileSpan>;
  CHECK(tile_spans(8, 8, 6) == Spans{{0, 8}});
  CHECK(tile_spans(5, 8, 6) == Spans{{0, 5}});
  CHECK(tile_spans(9, 8, 6) == Spans{{0, 8}, {6, 9}});
  CHECK(tile_spans(14, 8, 6) == Spans{{0, 8}, {6, 14}});
  CHECK(tile_spans(18, 8, 6) == Spans{{0, 8}, {6, 14}, {12, 18}});
}

TEST_CASE("tile_weights add up to one and change by one step at a time") {
  for (const int64_t size : {9, 14, 18, 31}) {
    const auto spans = tile_spans(size, 8, 6);
    const int64_t scale = 4, overlap = 2 * scale;
    std::vector<float> total(static_cast<size_t>(size * scale));
    for (size_t i = 0; i < spans.size(); ++i) {
      const std::vector<float> weights = tile_weights(spans, i, scale);
      for (size_t k = 0; k < weights.size(); ++k) {
        total[static_cast<size_t>(spans[i].begin * scale) + k] += weights[k];
        if (k > 0)
          CHECK(std::abs(weights[k] - weights[k - 1]) <=
                1.0f / static_cast<float>(overlap) + 1e-6f);
      }
      CHECK(weights.front() == (i == 0 ? 1.0f : 0.0f));
    }
    for (const float sum : total) CHECK(sum == doctest::Approx(1).epsilon(1e-6));
  }
}

TEST_CASE("one tile that covers everything gives the bits of the whole picture") {
  for (const bool residual : {false, true}) {
    SmallVae vae(residual);
    const OwnedTensor latents = smooth_latents(vae.config, 3, 8, 6);
    const OwnedTensor whole = whole_pictures(vae, latents);

    TiledVaeDecoder decoder(vae.decoder, 8 * vae.config.spatial_factor, "/nowhere");

    CHECK(same_bits(pictures(decoder, vae.config, latents, 3, test_stream()), whole));
  }
}

TEST_CASE("several tiles are what each makes alone, faded into each other") {
  for (const bool residual : {false, true}) {
    SmallVae vae(residual);
    // More latent frames than one round: histories are put aside and come back.
    const OwnedTensor latents = smooth_latents(vae.config, TiledVaeDecoder::kRound + 3, 13, 18);
    const Tiles tiles(vae, latents, 8);
    const OwnedTensor whole = whole_pictures(vae, latents);
    TiledVaeDecoder decoder(vae.decoder, 8 * vae.config.spatial_factor, vae.folder.path());

    const OwnedTensor got = pictures(decoder, vae.config, latents, latents.dim(0), test_stream());

    double worst = 0, beyond = 0, largest = 0;
    for_each_value(got, [&](int64_t i, int64_t t, int64_t y, int64_t x, int64_t c) {
      double blend = 0, bound = 0;
      const double truth = whole.as<float>()[i];
      tiles.visit(t, y, x, c, vae.config.patch, [&](double weight, double value) {
        blend += weight * value;
        bound = std::max(bound, std::abs(value - truth));
      });
      worst = std::max(worst, std::abs(blend - got.as<float>()[i]));
      // A mean is no further from the truth than the worst of what it is the mean of.
      const double error = std::abs(got.as<float>()[i] - truth);
      beyond = std::max(beyond, error - bound);
      largest = std::max(largest, error);
    });
    CHECK(worst < 1e-6);
    CHECK(beyond < 1e-6);
    CHECK(largest > 1e-3);  // tiles do see less than the whole
  }
}

TEST_CASE("no seam is steeper than the pictures and the fade allow") {
  SmallVae vae(false);
  const OwnedTensor latents = smooth_latents(vae.config, 2, 8, 30);
  const Tiles tiles(vae, latents, 16);
  TiledVaeDecoder decoder(vae.decoder, 16 * vae.config.spatial_factor, vae.folder.path());
  const OwnedTensor got = pictures(decoder, vae.config, latents, 2, test_stream());
  const int64_t fade = 4 * vae.config.spatial_factor;

  double beyond = -1;
  int64_t seams = 0;
  for_each_value(got, [&](int64_t i, int64_t t, int64_t y, int64_t x, int64_t c) {
    if (x == 0) return;
    // Neighbours b - a of tiles with weights w' and w: sum w' (b - a) + sum (w' - w) a.
    double slope = 0, low = 1e9, high = -1e9;
    for (size_t j = 0; j < tiles.columns.size(); ++j) {
      const OwnedTensor& p = tiles.alone[j];
      const int64_t column = x - tiles.columns[j].begin * tiles.scale;
      if (column < 1 || column > p.dim(2)) continue;
      const float* at = p.as<float>() + ((t * p.dim(1) + y) * p.dim(2) + column) * 3 + c;
      low = std::min(low, double{at[-3]});
      high = std::max(high, double{at[-3]});
      if (column < p.dim(2)) slope = std::max(slope, std::abs(double{at[0]} - at[-3]));
    }
    seams += high > low ? 1 : 0;
    const double step = std::abs(double{got.as<float>()[i]} - got.as<float>()[i - 3]);
    beyond = std::max(beyond, step - slope - (high - low) / static_cast<double>(fade));
  });
  CHECK(seams > 0);
  CHECK(beyond < 1e-6);
}

TEST_CASE("beyond reach of its border a tile agrees with the whole picture") {
  for (const bool residual : {false, true}) {
    SmallVae vae(residual, false);
    const int64_t size = 80, side = 32;
    const OwnedTensor latents = smooth_latents(vae.config, 2, 4, size);
    const auto spans = tile_spans(size, side, 24);
    REQUIRE(spans.size() == 3);
    const OwnedTensor whole = whole_pictures(vae, latents);
    TiledVaeDecoder decoder(vae.decoder, side * vae.config.spatial_factor, vae.folder.path());

    const OwnedTensor got = pictures(decoder, vae.config, latents, 2, test_stream());

    double inside = 0, outside = 0;
    int64_t compared = 0;
    for_each_value(got, [&](int64_t i, int64_t, int64_t, int64_t x, int64_t) {
      const double at = static_cast<double>(x) / static_cast<double>(vae.config.spatial_factor);
      bool affected = false;
      for (size_t k = 1; k < spans.size(); ++k) {
        const auto low = static_cast<double>(spans[k].begin - SmallVae::kReach);
        const auto high = static_cast<double>(spans[k - 1].end + SmallVae::kReach);
        // A tile's border matters as far as it reaches, within the tile.
        affected |= at >= std::max(low, static_cast<double>(spans[k - 1].begin)) && at < high;
      }
      const double error = std::abs(double{got.as<float>()[i]} - whole.as<float>()[i]);
      (affected ? outside : inside) = std::max(affected ? outside : inside, error);
      compared += affected ? 0 : 1;
    });
    CHECK(compared > got.numel() / 10);
    CHECK(inside < 1e-5);  // rounding of another order of sums
    CHECK(outside > 1e-4);
  }
}

TEST_CASE("tiles: the bits do not depend on threads or on how many frames come at once") {
  for (const bool residual : {false, true}) {
    SmallVae vae(residual);
    const OwnedTensor latents = smooth_latents(vae.config, 5, 10, 13);
    const int64_t side = 8 * vae.config.spatial_factor;
    TiledVaeDecoder decoder(vae.decoder, side, vae.folder.path());
    ThreadPool one(1), three(3);

    const OwnedTensor first = pictures(decoder, vae.config, latents, 5, StreamRef(one));

    CHECK(same_bits(first, pictures(decoder, vae.config, latents, 1, StreamRef(three))));
    CHECK(same_bits(first, pictures(decoder, vae.config, latents, 2, StreamRef(one))));
  }
}

TEST_CASE("tiles take less memory, and no more for a longer video") {
  for (const bool residual : {false, true}) {
    const auto peak = [&](int64_t tile, int64_t frames) {
      SmallVae vae(residual);
      const OwnedTensor latents = smooth_latents(vae.config, frames, 48, 48);
      TiledVaeDecoder decoder(vae.decoder, tile * vae.config.spatial_factor, vae.folder.path());
      pictures(decoder, vae.config, latents, decoder.at_once(), test_stream());
      return vae.decoder.pool().peak_bytes();
    };
    const int64_t whole = peak(0, 4), tiled = peak(16, 2 * TiledVaeDecoder::kRound);
    const int64_t round_pictures =
        TiledVaeDecoder::kRound * 2 * 48 * 48 * (residual ? 16 : 4) * 3 * 4;

    CHECK(peak(0, 6) == whole);
    CHECK(peak(16, 3 * TiledVaeDecoder::kRound) == tiled);
    // A ninth of the positions, and tiles of four sizes.
    MESSAGE("whole " << whole << " bytes, tiles " << tiled << ", pictures " << round_pictures);
    CHECK(tiled < round_pictures + whole / 5);
    const double predicted = decode_bytes(SmallVae(residual).config, 48, 48);
    CHECK(predicted >= static_cast<double>(whole));
    CHECK(predicted < 1.3 * static_cast<double>(whole));
  }
}

TEST_CASE("states of tiles come back with the types, shapes and bits that they had") {
  const ScratchFolder folder;
  FramePool pool;
  TileStates states(folder.path());
  const auto frame = [&](DType dtype, uint64_t seed) {
    const OwnedTensor x = random_tensor({3, 5, 4}, seed, 1, dtype);
    OwnedTensor out = pool.take(3, 5, 4, dtype);
    std::memcpy(out.view().data, x.view().data, x.bytes());
    return out;
  };
  const auto state = [&](uint64_t seed) {
    VaeState out;
    out.slots.resize(2);
    out.slots[0].frames()[0] = frame(DType::bf16, seed);
    out.slots[0].frames()[1] = frame(DType::bf16, seed + 1);
    out.slots[1].frames()[1] = frame(DType::f32, seed + 2);
    return out;
  };

  for (const size_t tile : {0, 1}) states.put(tile, state(10 * tile), pool, test_stream());

  for (const size_t tile : {0, 1}) {
    VaeState expected = state(10 * tile), got = states.take(tile, pool, test_stream());
    REQUIRE(got.slots.size() == 2);
    for (size_t i = 0; i < 2; ++i)
      for (size_t k = 0; k < 2; ++k) {
        const OwnedTensor &a = expected.slots[i].frames()[k], &b = got.slots[i].frames()[k];
        REQUIRE(a.shape() == b.shape());
        if (!a) continue;
        CHECK(a.dtype() == b.dtype());
        CHECK(std::memcmp(a.view().data, b.view().data, a.bytes()) == 0);
      }
  }
}

TEST_CASE("tiles whose states cannot be put aside say where") {
  SmallVae vae(false);
  const OwnedTensor latents = smooth_latents(vae.config, 1, 8, 18);
  TiledVaeDecoder decoder(vae.decoder, 8 * vae.config.spatial_factor, "/nowhere");

  const Error error = error_of([&] { pictures(decoder, vae.config, latents, 1, test_stream()); });

  CHECK(error.code() == ExitCode::cannot_create);
  CHECK(mentions(error, "/nowhere"));
}

}  // namespace longtake::testing
