#include "runtime/model/vae_decoder.h"

#include <algorithm>
#include <utility>

#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace longtake {

namespace {

constexpr Padding kAround1{1, 1, 1, 1};

}  // namespace

Upsampler::Upsampler(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
                     bool temporal, DType compute, int& slots, StreamRef stream)
    : conv_(read_conv(weights, prefix + ".resample.1", {out, in, 3, 3}, 1, compute, stream)) {
  if (!temporal) return;
  const std::string name = prefix + ".time_conv";
  const StreamRef host(stream.pool());
  const OwnedTensor weight =
      weights.read(name + ".weight", {2 * in, in, 3, 1, 1}, DType::f32, host);
  const OwnedTensor bias = weights.read(name + ".bias", {2 * in}, DType::f32, host);
  const auto half = [&](int64_t begin) {
    return ConvWeights(ConstTensor(weight).rows(begin, begin + in),
                       ConstTensor(bias).rows(begin, begin + in), 1, compute, stream);
  };
  even_ = half(0);
  odd_ = half(in);
  slot_ = static_cast<size_t>(slots++);
}

OwnedTensor Upsampler::space(OwnedTensor x, const VaePass& pass) const {
  const int64_t h = 2 * x.dim(0), w = 2 * x.dim(1);
  x = in_dtype(std::move(x), conv_.compute(), pass);
  OwnedTensor large = pass.pool.take(h, w, x.dim(2), x.dtype());
  OwnedTensor y = pass.pool.take(h, w, conv_.out());
  upsample_nearest(x, large, pass.stream);
  const ConstTensor frame = large.view();
  conv({&frame, 1}, conv_, kAround1, false, y, pass.stream);
  pass.pool.give(std::move(large));
  pass.pool.give(std::move(x));
  return y;
}

std::vector<OwnedTensor> Upsampler::forward(OwnedTensor x, const VaePass& pass) const {
  std::vector<OwnedTensor> out;
  // The first frame of a video skips the convolution in time and is not part of its history.
  if (!even_ || pass.state.first) {
    out.push_back(space(std::move(x), pass));
    return out;
  }
  History& history = pass.state.slots[slot_];
  x = in_dtype(std::move(x), conv_.compute(), pass);
  for (const ConvWeights* half : {&*even_, &*odd_}) {
    OwnedTensor y = pass.pool.take(x.dim(0), x.dim(1), half->out());
    conv(history.with(x), *half, {}, false, y, pass.stream);
    out.push_back(space(std::move(y), pass));
  }
  history.push(std::move(x), pass.pool);
  return out;
}

VaeDecoder::VaeDecoder(const Weights& weights, const VaeConfig& config, DType compute,
                       StreamRef stream)
    : config_(config), pool_(stream.device()) {
  if (!stream.on_gpu()) compute = DType::f32;
  // Every layer rounded to bf16 puts pictures 3.1e-2 (relative L2) from the reference; what comes
  // before the last two enlargements is less than half of the work, and in f32 leaves 1.5e-2.
  constexpr DType early = DType::f32;
  const auto levels = static_cast<int64_t>(config.dim_mult.size());
  std::vector<int64_t> dims{config.decoder_base_dim * config.dim_mult.back()};
  for (int64_t i = levels; i-- > 0;)
    dims.push_back(config.decoder_base_dim * config.dim_mult[static_cast<size_t>(i)]);
  post_quant_ =
      weights.linear("post_quant_conv", config.z_dim, config.z_dim, true, DType::f32, stream);
  conv_in_ = CausalConv(weights, "decoder.conv_in", {dims[0], config.z_dim, 3, 3, 3}, early, slots_,
                        stream);
  mid_.emplace(weights, "decoder.mid_block", dims[0], early, slots_, stream);
  for (int64_t i = 0; i < levels; ++i) {
    Level level;
    const std::string prefix = "decoder.up_blocks." + std::to_string(i);
    const DType of_level = 2 * i < levels ? early : compute;
    // In the plain VAE the upsampler before has halved the channels.
    level.in = dims[static_cast<size_t>(i)] / (!config.residual && i > 0 ? 2 : 1);
    level.out = dims[static_cast<size_t>(i + 1)];
    for (int64_t r = 0; r <= config.res_blocks; ++r)
      level.blocks.emplace_back(weights, prefix + ".resnets." + std::to_string(r),
                                r == 0 ? level.in : level.out, level.out, of_level, slots_, stream);
    if (i + 1 < levels) {
      level.temporal = config.temporal_downsample[static_cast<size_t>(levels - 2 - i)];
      level.up.emplace(weights, prefix + (config.residual ? ".upsampler" : ".upsamplers.0"),
                       level.out, config.residual ? level.out : level.out / 2, level.temporal,
                       of_level, slots_, stream);
    }
    levels_.push_back(std::move(level));
  }
  head_.emplace(weights, "decoder", dims.back(), config.out_channels, compute, slots_, stream);
  reset();
}

VaeState VaeDecoder::new_state() const {
  VaeState state;
  state.slots.resize(static_cast<size_t>(slots_));
  return state;
}

void VaeDecoder::reset() {
  release(std::move(state_), pool_);
  state_ = new_state();
}

// [z, h, w] on the host -> [h, w, z] in the VAE's own scale.
OwnedTensor VaeDecoder::denormalised(ConstTensor latent, StreamRef stream) {
  const int64_t z = config_.z_dim, h = latent.dim(1), w = latent.dim(2);
  OwnedTensor own_scale = pictures().take(h, w, z);
  for (int64_t c = 0; c < z; ++c) {
    const auto i = static_cast<size_t>(c);
    for (int64_t p = 0; p < h * w; ++p)
      own_scale.as<float>()[p * z + c] =
          latent.as<float>()[c * h * w + p] * config_.latents_std[i] + config_.latents_mean[i];
  }
  OwnedTensor raw = pool_.take(h, w, z), x = pool_.take(h, w, z);
  copy(own_scale, raw, stream);
  pictures().give(std::move(own_scale));
  linear({.x = ConstTensor(raw).reshape({h * w, z}), .y = x.view().reshape({h * w, z})},
         post_quant_, stream);
  pool_.give(std::move(raw));
  return x;
}

void VaeDecoder::decode(ConstTensor latent, const Sink& sink, StreamRef stream) {
  decode(
      latent, state_, [&](OwnedTensor raw) { show(std::move(raw), sink); }, stream);
}

void VaeDecoder::decode(ConstTensor latent, VaeState& state, const RawSink& sink,
                        StreamRef stream) {
  LT_CHECK(latent.rank() == 3 && latent.dim(0) == config_.z_dim && latent.dense(),
           "expected a latent frame [{}, h, w], found {}", config_.z_dim, latent.shape.text());
  const VaePass pass{state, pool_, stream};
  OwnedTensor y = pool_.take(latent.dim(1), latent.dim(2), conv_in_.out());
  conv_in_.forward(denormalised(latent, stream), false, y, pass);
  mid_->forward(y, pass);
  run_level(0, std::move(y), sink, pass);
  state.first = false;
}

// Depth first: each frame goes through all later levels before the next one, so only one is large.
void VaeDecoder::run_level(size_t index, OwnedTensor x, const RawSink& sink, const VaePass& pass) {
  if (index == levels_.size()) {
    OwnedTensor raw = head_->forward(std::move(x), pass);
    if (pool_.on_host()) return sink(std::move(raw));
    OwnedTensor picture = host_pool_.take(raw.dim(0), raw.dim(1), raw.dim(2));
    copy(raw, picture, pass.stream);
    pool_.give(std::move(raw));
    return sink(std::move(picture));
  }
  const Level& level = levels_[index];
  std::vector<OwnedTensor> shortcut;
  if (config_.residual && level.up) shortcut = duplicated(level, x, pass);
  for (const ResBlock& block : level.blocks) block.forward(x, pass);
  if (!level.up) return run_level(index + 1, std::move(x), sink, pass);
  std::vector<OwnedTensor> frames = level.up->forward(std::move(x), pass);
  for (size_t i = 0; i < frames.size(); ++i) {
    if (!shortcut.empty()) {
      add(shortcut[i], frames[i], pass.stream);
      pool_.give(std::move(shortcut[i]));
    }
    run_level(index + 1, std::move(frames[i]), sink, pass);
  }
}

// Parameter-free shortcut of the residual VAE (DupUp3D, wan.md 5.4); of the first frame only the
// last half is kept.
std::vector<OwnedTensor> VaeDecoder::duplicated(const Level& level, ConstTensor x,
                                                const VaePass& pass) {
  const int64_t ft = level.temporal ? 2 : 1;
  std::vector<OwnedTensor> frames;
  for (int64_t a = pass.state.first ? ft - 1 : 0; a < ft; ++a) {
    frames.push_back(pool_.take(2 * x.dim(0), 2 * x.dim(1), level.out));
    upsample_duplicate(x, ft, a, frames.back(), pass.stream);
  }
  return frames;
}

// Pixels out of patches, clamped.
void VaeDecoder::show(OwnedTensor raw, const Sink& sink) {
  const int64_t p = config_.patch, c = config_.out_channels / (p * p);
  const int64_t height = raw.dim(0) * p, width = raw.dim(1) * p;
  OwnedTensor pixels = pictures().take(height, width, c);
  for (int64_t row = 0; row < height; ++row)
    for (int64_t column = 0; column < width; ++column) {
      const float* from =
          raw.as<float>() + ((row / p) * raw.dim(1) + column / p) * config_.out_channels;
      float* to = pixels.as<float>() + (row * width + column) * c;
      // The offset in the row is the slower one (wan.md 5.4).
      for (int64_t k = 0; k < c; ++k)
        to[k] = std::clamp(from[(k * p + column % p) * p + row % p], -1.0f, 1.0f);
    }
  sink(pixels);
  pictures().give(std::move(raw));
  pictures().give(std::move(pixels));
}

}  // namespace longtake
