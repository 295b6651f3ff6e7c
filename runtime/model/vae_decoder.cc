#include "runtime/model/vae_decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/elementwise.h"

namespace longtake {

namespace {

constexpr Padding kAround1{1, 1, 1, 1};

}  // namespace

Upsampler::Upsampler(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
                     bool temporal, StreamRef stream) {
  if (temporal) {
    const std::string name = prefix + ".time_conv";
    even_.emplace(weights, name, Shape{2 * in, in, 3, 1, 1}, 0, in, stream);
    odd_.emplace(weights, name, Shape{2 * in, in, 3, 1, 1}, in, in, stream);
  }
  const std::string name = prefix + ".resample.1";
  conv_ = ConvWeights(weights.read(name + ".weight", {out, in, 3, 3}, DType::f32, stream),
                      weights.read(name + ".bias", {out}, DType::f32, stream), 1, stream);
}

OwnedTensor Upsampler::space(OwnedTensor x, FramePool& pool, StreamRef stream) {
  const int64_t h = 2 * x.dim(0), w = 2 * x.dim(1);
  OwnedTensor large = pool.take(h, w, x.dim(2)), y = pool.take(h, w, conv_.out());
  upsample_nearest(x, large, stream);
  const ConstTensor frame = large.view();
  conv({&frame, 1}, conv_, kAround1, false, y, stream);
  pool.give(std::move(large));
  pool.give(std::move(x));
  return y;
}

std::vector<OwnedTensor> Upsampler::forward(OwnedTensor x, bool first, FramePool& pool,
                                            StreamRef stream) {
  std::vector<OwnedTensor> out;
  // The first frame of a video skips the convolution in time and is not part of its history.
  if (!even_ || first) {
    out.push_back(space(std::move(x), pool, stream));
    return out;
  }
  for (CausalConv* half : {&*even_, &*odd_}) {
    OwnedTensor y = pool.take(x.dim(0), x.dim(1), half->out());
    half->forward(x, false, y, stream);
    out.push_back(space(std::move(y), pool, stream));
  }
  pool.give(std::move(x));
  return out;
}

void Upsampler::reset() {
  if (even_) even_->reset();
  if (odd_) odd_->reset();
}

VaeDecoder::VaeDecoder(const Weights& weights, const VaeConfig& config, StreamRef stream)
    : config_(config) {
  const auto levels = static_cast<int64_t>(config.dim_mult.size());
  std::vector<int64_t> dims{config.decoder_base_dim * config.dim_mult.back()};
  for (int64_t i = levels; i-- > 0;)
    dims.push_back(config.decoder_base_dim * config.dim_mult[static_cast<size_t>(i)]);
  post_quant_ =
      weights.linear("post_quant_conv", config.z_dim, config.z_dim, true, DType::f32, stream);
  conv_in_ = CausalConv(weights, "decoder.conv_in", {dims[0], config.z_dim, 3, 3, 3}, stream);
  mid_.emplace_back(weights, "decoder.mid_block.resnets.0", dims[0], dims[0], stream);
  mid_attention_.emplace(weights, "decoder.mid_block.attentions.0", dims[0], stream);
  mid_.emplace_back(weights, "decoder.mid_block.resnets.1", dims[0], dims[0], stream);
  for (int64_t i = 0; i < levels; ++i) {
    Level level;
    const std::string prefix = "decoder.up_blocks." + std::to_string(i);
    // In the plain VAE the upsampler before has halved the channels.
    level.in = dims[static_cast<size_t>(i)] / (!config.residual && i > 0 ? 2 : 1);
    level.out = dims[static_cast<size_t>(i + 1)];
    for (int64_t r = 0; r <= config.res_blocks; ++r)
      level.blocks.emplace_back(weights, prefix + ".resnets." + std::to_string(r),
                                r == 0 ? level.in : level.out, level.out, stream);
    if (i + 1 < levels) {
      level.temporal = config.temporal_downsample[static_cast<size_t>(levels - 2 - i)];
      level.up.emplace(weights, prefix + (config.residual ? ".upsampler" : ".upsamplers.0"),
                       level.out, config.residual ? level.out : level.out / 2, level.temporal,
                       stream);
    }
    levels_.push_back(std::move(level));
  }
  const int64_t last = dims.back();
  const Shape stored = weights.shape("decoder.norm_out.gamma");
  LT_CHECK(stored.numel() == last, "decoder.norm_out.gamma: expected {} values, found {}", last,
           stored.text());
  norm_out_ = weights.read("decoder.norm_out.gamma", stored, DType::f32, stream);
  conv_out_ = CausalConv(weights, "decoder.conv_out", {config.out_channels, last, 3, 3, 3}, stream);
}

void VaeDecoder::reset() {
  first_ = true;
  conv_in_.reset();
  conv_out_.reset();
  for (ResBlock& block : mid_) block.reset();
  for (Level& level : levels_) {
    for (ResBlock& block : level.blocks) block.reset();
    if (level.up) level.up->reset();
  }
}

void VaeDecoder::decode(ConstTensor latent, const Sink& sink, StreamRef stream) {
  LT_CHECK(latent.rank() == 3 && latent.dim(0) == config_.z_dim && latent.dense(),
           "expected a latent frame [{}, h, w], found {}", config_.z_dim, latent.shape.text());
  const int64_t z = config_.z_dim, h = latent.dim(1), w = latent.dim(2);
  OwnedTensor raw = pool_.take(h, w, z), x = pool_.take(h, w, z);
  for (int64_t c = 0; c < z; ++c) {
    const auto i = static_cast<size_t>(c);
    for (int64_t p = 0; p < h * w; ++p)
      raw.as<float>()[p * z + c] =
          latent.as<float>()[c * h * w + p] * config_.latents_std[i] + config_.latents_mean[i];
  }
  linear({.x = ConstTensor(raw).reshape({h * w, z}), .y = x.view().reshape({h * w, z})},
         post_quant_, stream);
  OwnedTensor y = pool_.take(h, w, conv_in_.out());
  conv_in_.forward(x, false, y, stream);
  pool_.give(std::move(raw));
  pool_.give(std::move(x));
  mid_[0].forward(y, pool_, stream);
  mid_attention_->forward(y, pool_, stream);
  mid_[1].forward(y, pool_, stream);
  run_level(0, std::move(y), first_, sink, stream);
  first_ = false;
}

// Depth first: each frame goes through all later levels before the next one, so only one is large.
void VaeDecoder::run_level(size_t index, OwnedTensor x, bool first, const Sink& sink,
                           StreamRef stream) {
  if (index == levels_.size()) return finish(std::move(x), sink, stream);
  Level& level = levels_[index];
  std::vector<OwnedTensor> shortcut;
  if (config_.residual && level.up) shortcut = duplicated(level, x, first);
  for (ResBlock& block : level.blocks) block.forward(x, pool_, stream);
  if (!level.up) return run_level(index + 1, std::move(x), first, sink, stream);
  std::vector<OwnedTensor> frames = level.up->forward(std::move(x), first, pool_, stream);
  for (size_t i = 0; i < frames.size(); ++i) {
    if (!shortcut.empty()) {
      add(shortcut[i], frames[i], stream);
      pool_.give(std::move(shortcut[i]));
    }
    run_level(index + 1, std::move(frames[i]), first, sink, stream);
  }
}

// Parameter-free shortcut of the residual VAE (DupUp3D, wan.md 5.4): out[o, a, h 2 + i, w 2 + j] is
// input channel ((o ft + a) 4 + 2 i + j) / repeats; of the first frame only a = ft - 1 is kept.
std::vector<OwnedTensor> VaeDecoder::duplicated(const Level& level, ConstTensor x, bool first) {
  const int64_t ft = level.temporal ? 2 : 1, h = x.dim(0), w = x.dim(1), out = level.out;
  const int64_t repeats = out * ft * 4 / level.in;
  std::vector<OwnedTensor> frames;
  for (int64_t a = first ? ft - 1 : 0; a < ft; ++a) {
    OwnedTensor frame = pool_.take(2 * h, 2 * w, out);
    for (int64_t y = 0; y < 2 * h; ++y)
      for (int64_t v = 0; v < 2 * w; ++v) {
        const float* from = x.as<float>() + ((y / 2) * w + v / 2) * level.in;
        float* to = frame.as<float>() + (y * 2 * w + v) * out;
        for (int64_t o = 0; o < out; ++o)
          to[o] = from[((o * ft + a) * 4 + (y % 2) * 2 + v % 2) / repeats];
      }
    frames.push_back(std::move(frame));
  }
  return frames;
}

// Last convolution, pixels out of patches, clamp.
void VaeDecoder::finish(OwnedTensor x, const Sink& sink, StreamRef stream) {
  const int64_t h = x.dim(0), w = x.dim(1), p = config_.patch, c = config_.out_channels / (p * p);
  OwnedTensor y = pool_.take(h, w, config_.out_channels), pixels = pool_.take(h * p, w * p, c);
  frame_norm_silu(x, norm_out_, true, x, stream);
  conv_out_.forward(x, false, y, stream);
  pool_.give(std::move(x));
  for (int64_t row = 0; row < h * p; ++row)
    for (int64_t column = 0; column < w * p; ++column) {
      const float* from = y.as<float>() + ((row / p) * w + column / p) * config_.out_channels;
      float* to = pixels.as<float>() + (row * w * p + column) * c;
      // The offset in the row is the slower one (wan.md 5.4).
      for (int64_t k = 0; k < c; ++k)
        to[k] = std::clamp(from[(k * p + column % p) * p + row % p], -1.0f, 1.0f);
    }
  sink(pixels);
  pool_.give(std::move(y));
  pool_.give(std::move(pixels));
}

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

}  // namespace longtake
