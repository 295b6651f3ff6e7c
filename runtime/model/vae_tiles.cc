#include "runtime/model/vae_tiles.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace longtake {

namespace {

// Rows and columns of one latent frame [z, h, w].
OwnedTensor crop(ConstTensor latent, const TileSpan& rows, const TileSpan& columns) {
  const int64_t z = latent.dim(0), h = rows.end - rows.begin, w = columns.end - columns.begin;
  OwnedTensor out(DType::f32, {z, h, w});
  for (int64_t c = 0; c < z; ++c)
    for (int64_t y = 0; y < h; ++y)
      std::memcpy(
          out.as<float>() + (c * h + y) * w,
          latent.as<float>() + (c * latent.dim(1) + rows.begin + y) * latent.dim(2) + columns.begin,
          static_cast<size_t>(w) * sizeof(float));
  return out;
}

}  // namespace

std::vector<TileSpan> tile_spans(int64_t size, int64_t tile, int64_t stride) {
  std::vector<TileSpan> spans;
  for (int64_t begin = 0; spans.empty() || spans.back().end < size; begin += stride)
    spans.push_back({begin, std::min(size, begin + tile)});
  return spans;
}

std::vector<float> tile_weights(const std::vector<TileSpan>& spans, size_t index, int64_t scale) {
  const TileSpan& own = spans[index];
  std::vector<float> weights(static_cast<size_t>((own.end - own.begin) * scale), 1.0f);
  if (index > 0) {
    const int64_t n = (spans[index - 1].end - own.begin) * scale;
    for (int64_t i = 0; i < n; ++i)
      weights[static_cast<size_t>(i)] = static_cast<float>(i) / static_cast<float>(n);
  }
  if (index + 1 < spans.size()) {
    const int64_t n = (own.end - spans[index + 1].begin) * scale;
    for (int64_t i = 0; i < n; ++i)
      weights[weights.size() - static_cast<size_t>(n - i)] =
          1 - static_cast<float>(i) / static_cast<float>(n);
  }
  return weights;
}

TiledVaeDecoder::TiledVaeDecoder(VaeDecoder& decoder, int64_t side, std::filesystem::path folder)
    : decoder_(decoder),
      side_(side / decoder.config().spatial_factor),
      scale_(decoder.config().spatial_factor / decoder.config().patch),
      folder_(std::move(folder)) {
  LT_CHECK(side >= 0 && side % side_multiple(decoder.config()) == 0,
           "expected VAE tiles with a side that is a multiple of {}, found {}",
           side_multiple(decoder.config()), side);
}

bool TiledVaeDecoder::Tile::same_size(const Tile& other) const {
  return row_weights.size() == other.row_weights.size() &&
         column_weights.size() == other.column_weights.size();
}

void TiledVaeDecoder::reset() {
  decoder_.reset();
  first_ = true;
  states_.reset();
}

void TiledVaeDecoder::cut(int64_t h, int64_t w) {
  LT_CHECK(first_ || (h == h_ && w == w_), "expected latents {} x {} as before, found {} x {}", h_,
           w_, h, w);
  if (h == h_ && w == w_) return;
  h_ = h;
  w_ = w;
  const auto spans = [&](int64_t size) {
    return tile_spans(size, side_ > 0 ? side_ : size, std::max<int64_t>(1, side_ * 3 / 4));
  };
  const std::vector<TileSpan> rows = spans(h), columns = spans(w);
  tiles_.clear();
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < columns.size(); ++j)
      tiles_.push_back(
          {rows[i], columns[j], tile_weights(rows, i, scale_), tile_weights(columns, j, scale_)});
}

void TiledVaeDecoder::decode(ConstTensor latents, const VaeDecoder::Sink& sink, StreamRef stream) {
  LT_CHECK(latents.rank() == 4, "expected latents [frames, channels, h, w], found {}",
           latents.shape.text());
  cut(latents.dim(2), latents.dim(3));
  const int64_t frames = latents.dim(0);
  if (tiles_.size() == 1) {
    for (int64_t t = 0; t < frames; ++t)
      decoder_.decode(latents.rows(t, t + 1).reshape({latents.dim(1), h_, w_}), sink, stream);
    first_ = false;
    return;
  }
  if (!states_) states_.emplace(folder_);
  for (int64_t t = 0; t < frames; t += kRound)
    decode_round(latents.rows(t, std::min(frames, t + kRound)), sink, stream);
}

void TiledVaeDecoder::decode_round(ConstTensor latents, const VaeDecoder::Sink& sink,
                                   StreamRef stream) {
  const VaeConfig& config = decoder_.config();
  FramePool& pool = decoder_.pictures();
  const int64_t count =
      latents.dim(0) * config.temporal_factor - (first_ ? config.temporal_factor - 1 : 0);
  std::vector<OwnedTensor> pictures;
  for (int64_t i = 0; i < count; ++i) {
    pictures.push_back(pool.take(h_ * scale_, w_ * scale_, config.out_channels));
    pictures.back().fill_zero();
  }
  pool.trim();
  for (size_t tile = 0; tile < tiles_.size(); ++tile) decode_tile(tile, latents, pictures, stream);
  for (OwnedTensor& picture : pictures) decoder_.show(std::move(picture), sink);
  first_ = false;
}

void TiledVaeDecoder::decode_tile(size_t index, ConstTensor latents,
                                  std::vector<OwnedTensor>& pictures, StreamRef stream) {
  const Tile& tile = tiles_[index];
  FramePool &pool = decoder_.pool(), &raw_frames = decoder_.pictures();
  const int64_t width = w_ * scale_, channels = decoder_.config().out_channels;
  VaeState state = first_ ? decoder_.new_state() : states_->take(index, pool, stream);
  size_t next = 0;
  const auto add = [&](OwnedTensor raw) {
    float* picture = pictures.at(next++).as<float>();
    for (int64_t y = 0; y < raw.dim(0); ++y)
      for (int64_t x = 0; x < raw.dim(1); ++x) {
        const float weight =
            tile.row_weights[static_cast<size_t>(y)] * tile.column_weights[static_cast<size_t>(x)];
        const float* from = raw.as<float>() + (y * raw.dim(1) + x) * channels;
        float* to =
            picture +
            ((tile.rows.begin * scale_ + y) * width + tile.columns.begin * scale_ + x) * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] += weight * from[c];
      }
    raw_frames.give(std::move(raw));
  };
  for (int64_t t = 0; t < latents.dim(0); ++t) {
    const ConstTensor latent = latents.rows(t, t + 1).reshape({latents.dim(1), h_, w_});
    decoder_.decode(crop(latent, tile.rows, tile.columns), state, add, stream);
  }
  LT_CHECK(next == pictures.size(), "expected {} pictures of a tile, found {}", pictures.size(),
           next);
  states_->put(index, std::move(state), pool, stream);
  // Tiles at the edges are smaller: what is in the pool does not fit them.
  if (!tile.same_size(tiles_[(index + 1) % tiles_.size()])) pool.trim();
}

}  // namespace longtake
