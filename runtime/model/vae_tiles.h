// Decoding a large picture in overlapping spatial tiles, as diffusers' AutoencoderKLWan cuts them:
// tiles of a given side, three quarters of it apart; where two overlap, one fades linearly into the
// next. Each tile is decoded as if it were the whole picture, with a history of its own, a few
// latent frames at a time; meanwhile the states of the others wait in a file. So memory holds one
// tile and the pictures of those few frames, whatever the size and length of the video.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "runtime/model/tile_states.h"
#include "runtime/model/vae_decoder.h"

namespace longtake {

// Positions [begin, end) of a tile along one side of the picture.
struct TileSpan {
  int64_t begin = 0, end = 0;
  auto operator<=>(const TileSpan&) const = default;
};

// Tiles [k stride, k stride + tile), cut at `size`; none that the one before it makes needless.
std::vector<TileSpan> tile_spans(int64_t size, int64_t tile, int64_t stride);

// The part of each position of spans[index] in the picture: rises where the span before it ends,
// falls where the next one begins; the parts of all tiles at a position add up to one.
std::vector<float> tile_weights(const std::vector<TileSpan>& spans, size_t index, int64_t scale);

class TiledVaeDecoder {
 public:
  // Tiles are this many latent frames deep in time.
  static constexpr int64_t kRound = 8;
  // The side of tiles, in pixels, is a multiple of this.
  static int64_t side_multiple(const VaeConfig& config) { return 4 * config.spatial_factor; }

  // side: of a tile, in pixels; 0: the whole picture. `folder`: for the file.
  TiledVaeDecoder(VaeDecoder& decoder, int64_t side, std::filesystem::path folder);

  // latents: f32 [frames, z, h, w], the next of the video; best kRound at a time. The bits do not
  // depend on how many come at once.
  void decode(ConstTensor latents, const VaeDecoder::Sink& sink, StreamRef stream);
  void reset();  // the next latent frame starts a new video
  // Latent frames that one call of decode() should be given.
  int64_t at_once() const { return side_ > 0 ? kRound : 1; }

 private:
  struct Tile {
    TileSpan rows, columns;  // of the latents
    std::vector<float> row_weights, column_weights;
    bool same_size(const Tile& other) const;
  };
  void cut(int64_t h, int64_t w);
  void decode_round(ConstTensor latents, const VaeDecoder::Sink& sink, StreamRef stream);
  void decode_tile(size_t index, ConstTensor latents, std::vector<OwnedTensor>& pictures,
                   StreamRef stream);

  VaeDecoder& decoder_;
  int64_t side_;   // latent positions
  int64_t scale_;  // rows of the last convolution for a row of latents
  std::filesystem::path folder_;
  int64_t h_ = 0, w_ = 0;
  std::vector<Tile> tiles_;
  std::optional<TileStates> states_;
  bool first_ = true;  // no frame has been seen
};

}  // namespace longtake
