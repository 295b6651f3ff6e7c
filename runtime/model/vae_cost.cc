// What decoding costs: from the shapes of the layers alone.
#include <algorithm>

#include "runtime/model/vae_decoder.h"

namespace longtake {

double decode_flops(const VaeConfig& config, int64_t h, int64_t w) {
  const auto conv = [](int64_t in, int64_t out, int64_t taps, double positions) {
    return 2.0 * static_cast<double>(in * out * taps) * positions;
  };
  const size_t levels = config.dim_mult.size();
  const int64_t top = config.decoder_base_dim * config.dim_mult.back();
  double positions = static_cast<double>(h * w), frames = 1;
  double total = conv(config.z_dim, top, 27, positions) + 4 * conv(top, top, 27, positions) +
                 conv(top, 4 * top, 1, positions) +
                 4 * positions * positions * static_cast<double>(top);
  int64_t in = top;
  for (size_t i = 0; i < levels; ++i) {
    const int64_t out = config.decoder_base_dim * config.dim_mult[levels - 1 - i];
    total +=
        frames * (conv(in, out, 27, positions) +
                  static_cast<double>(2 * config.res_blocks + 1) * conv(out, out, 27, positions));
    if (i + 1 == levels) break;
    if (config.temporal_downsample[levels - 2 - i]) {
      total += frames * conv(out, 2 * out, 3, positions);
      frames *= 2;
    }
    positions *= 4;
    in = config.residual ? out : out / 2;
    total += frames * conv(out, in, 9, positions);
  }
  return total + frames * conv(config.decoder_base_dim * config.dim_mult.front(),
                               config.out_channels, 27, positions);
}

// Every convolution in time keeps its last two inputs, and each level works on a few frames more:
// the pool keeps those of all levels. In f32: decoding in bf16 takes less.
double decode_bytes(const VaeConfig& config, int64_t h, int64_t w) {
  const size_t levels = config.dim_mult.size();
  const int64_t top = config.decoder_base_dim * config.dim_mult.back();
  double positions = static_cast<double>(h * w);
  const auto frames = [&](int64_t count, int64_t channels) {
    return static_cast<double>(count * channels) * positions * sizeof(float);
  };
  double total = frames(5, config.z_dim) + frames(8 + 6, top);  // latent, middle
  int64_t in = top;
  for (size_t i = 0; i < levels; ++i) {
    const int64_t out = config.decoder_base_dim * config.dim_mult[levels - 1 - i];
    const bool last = i + 1 == levels;
    const bool temporal = !last && config.temporal_downsample[levels - 2 - i];
    total += frames(2, in) + frames(2 * (2 * config.res_blocks + 1), out);  // history
    total += frames(1, in) + frames(3, std::max(in, out));
    if (last) break;
    if (temporal) total += frames(2 + 1, out);
    positions *= 4;
    in = config.residual ? out : out / 2;
    const int64_t at_once = temporal ? 2 : 1;
    total += frames(1, out) + frames(at_once, in) + frames(config.residual ? at_once : 0, out);
  }
  const auto pixels = static_cast<int64_t>(config.patch * config.patch);
  return total + frames(2, config.decoder_base_dim * config.dim_mult.front()) +
         frames(1, config.out_channels) + frames(pixels, config.out_channels / pixels);
}

}  // namespace longtake
