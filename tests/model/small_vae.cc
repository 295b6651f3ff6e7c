#include "tests/model/small_vae.h"

#include <cmath>
#include <cstring>

namespace longtake::testing {

namespace {

VaeConfig small_config(bool residual) {
  VaeConfig c;
  c.base_dim = c.decoder_base_dim = 8;
  c.z_dim = residual ? 48 : 16;
  c.dim_mult = {1, 2};
  c.res_blocks = 1;
  c.temporal_downsample = {true};
  c.temporal_factor = 2;
  c.residual = residual;
  c.patch = residual ? 2 : 1;
  c.out_channels = 3 * c.patch * c.patch;
  c.spatial_factor = 2 * c.patch;
  c.latents_mean.assign(static_cast<size_t>(c.z_dim), 0.1f);
  c.latents_std.assign(static_cast<size_t>(c.z_dim), 1.5f);
  return c;
}

Weights random_weights(const VaeConfig& config, bool attention, const std::filesystem::path& file) {
  std::vector<RandomTensor> tensors = vae_decoder_tensors(config);
  for (RandomTensor& tensor : tensors) {
    if (!attention && tensor.name.find("attentions.0.proj") != std::string::npos)
      tensor.deviation = 0;
    // Pictures within [-1, 1], so that nothing is clamped.
    if (tensor.name == "decoder.conv_out.weight") tensor.deviation *= 0.2f;
  }
  write_random_weights(file, tensors, DType::f32, 3);
  return Weights(file, WeightsOf::vae);
}

}  // namespace

SmallVae::SmallVae(bool residual, bool attention)
    : config(small_config(residual)),
      decoder(random_weights(config, attention, folder / "vae.safetensors"), config, DType::f32,
              test_stream()) {}

OwnedTensor smooth_latents(const VaeConfig& config, int64_t frames, int64_t h, int64_t w) {
  OwnedTensor out(DType::f32, {frames, config.z_dim, h, w});
  float* to = out.as<float>();
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t c = 0; c < config.z_dim; ++c)
      for (int64_t y = 0; y < h; ++y)
        for (int64_t x = 0; x < w; ++x) {
          const auto phase = static_cast<double>(3 * c + 2 * t);
          *to++ = static_cast<float>(std::sin(0.11 * static_cast<double>(x) + phase) *
                                     std::cos(0.07 * static_cast<double>(y) - phase));
        }
  return out;
}

OwnedTensor pictures(TiledVaeDecoder& decoder, const VaeConfig& config, ConstTensor latents,
                     int64_t step, StreamRef stream) {
  const int64_t height = latents.dim(2) * config.spatial_factor;
  const int64_t width = latents.dim(3) * config.spatial_factor;
  const int64_t frames = (latents.dim(0) - 1) * config.temporal_factor + 1;
  OwnedTensor out(DType::f32, {frames, height, width, 3});
  int64_t next = 0;
  const auto sink = [&](ConstTensor picture) {
    LT_CHECK(next < frames && picture.numel() == height * width * 3, "a picture {} too many",
             picture.shape.text());
    std::memcpy(out.as<float>() + next++ * picture.numel(), picture.data, picture.bytes());
  };
  decoder.reset();
  for (int64_t t = 0; t < latents.dim(0); t += step)
    decoder.decode(latents.rows(t, std::min(latents.dim(0), t + step)), sink, stream);
  LT_CHECK(next == frames, "expected {} pictures, found {}", frames, next);
  return out;
}

OwnedTensor whole_pictures(SmallVae& vae, ConstTensor latents) {
  TiledVaeDecoder decoder(vae.decoder, 0, vae.folder.path());
  return pictures(decoder, vae.config, latents, 1, test_stream());
}

}  // namespace longtake::testing
