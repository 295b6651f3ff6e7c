#include "runtime/model/vae_encoder.h"

#include <utility>

#include "kernels/elementwise.h"

namespace longtake {

namespace {

constexpr Padding kBehind1{0, 1, 0, 1};

}  // namespace

Downsampler::Downsampler(const Weights& weights, const std::string& prefix, int64_t channels,
                         bool temporal, int& slots, StreamRef stream)
    : conv_(read_conv(weights, prefix + "resample.1", {channels, channels, 3, 3}, 2, DType::f32,
                      stream)) {
  if (!temporal) return;
  time_conv_ = read_conv(weights, prefix + "time_conv", {channels, channels, 3, 1, 1}, 1,
                         DType::f32, stream);
  slot_ = static_cast<size_t>(slots++);
}

std::optional<OwnedTensor> Downsampler::forward(OwnedTensor x, bool gives,
                                                const VaePass& pass) const {
  OwnedTensor y = pass.pool.take(x.dim(0) / 2, x.dim(1) / 2, conv_.out());
  const ConstTensor frame = x.view();
  conv({&frame, 1}, conv_, kBehind1, false, y, pass.stream);
  pass.pool.give(std::move(x));
  if (!time_conv_) return y;
  History& history = pass.state.slots[slot_];
  std::optional<OwnedTensor> out;
  if (gives) out = pass.pool.take(y.dim(0), y.dim(1), y.dim(2));
  if (gives && pass.state.first)
    convert(y, *out, pass.stream);
  else if (gives)
    conv(history.with(y), *time_conv_, {}, false, *out, pass.stream);
  history.push(std::move(y), pass.pool);
  return out;
}

VaeEncoder::VaeEncoder(const Weights& weights, const VaeConfig& config, StreamRef stream)
    : config_(config) {
  const int64_t z = config.z_dim;
  conv_in_ = CausalConv(weights, "encoder.conv_in", {config.base_dim, config.in_channels, 3, 3, 3},
                        DType::f32, slots_, stream);
  add_levels(weights, stream);
  const int64_t last = levels_.back().out;
  mid_.emplace(weights, "encoder.mid_block", last, DType::f32, slots_, stream);
  head_.emplace(weights, "encoder", last, 2 * z, DType::f32, slots_, stream);
  const OwnedTensor weight =
      weights.read("quant_conv.weight", {2 * z, 2 * z, 1, 1, 1}, DType::f32, stream);
  const OwnedTensor bias = weights.read("quant_conv.bias", {2 * z}, DType::f32, stream);
  quant_ = Linear(ConstTensor(weight).reshape({2 * z, 2 * z}).rows(0, z),
                  ConstTensor(bias).rows(0, z), DType::f32, stream);
  reset();
}

// The plain VAE numbers blocks and downsamplers through, the residual one level by level.
void VaeEncoder::add_levels(const Weights& weights, StreamRef stream) {
  const size_t levels = config_.dim_mult.size();
  int64_t in = config_.base_dim, flat = 0;
  for (size_t i = 0; i < levels; ++i) {
    Level level;
    level.in = in;
    level.out = config_.base_dim * config_.dim_mult[i];
    const std::string list = "encoder.down_blocks.";
    const std::string own = list + std::to_string(i);
    for (int64_t r = 0; r < config_.res_blocks; ++r, in = level.out)
      level.blocks.emplace_back(
          weights,
          config_.residual ? own + ".resnets." + std::to_string(r) : list + std::to_string(flat++),
          in, level.out, DType::f32, slots_, stream);
    if (i + 1 < levels) {
      level.temporal = config_.temporal_downsample[i];
      level.down.emplace(
          weights, config_.residual ? own + ".downsampler." : list + std::to_string(flat++) + ".",
          level.out, level.temporal, slots_, stream);
    }
    levels_.push_back(std::move(level));
  }
}

void VaeEncoder::reset() {
  release(std::move(state_), pool_);
  state_ = {};
  state_.slots.resize(static_cast<size_t>(slots_));
  for (Level& level : levels_) {
    pool_.give(std::move(level.shortcut));
    level.shortcut = OwnedTensor();
  }
}

// Pixels to patches: the offset in the row is the slower one (wan.md 5.4).
OwnedTensor VaeEncoder::patches(ConstTensor frame) {
  const int64_t p = config_.patch, c = frame.dim(2), width = frame.dim(1);
  OwnedTensor out = pool_.take(frame.dim(0) / p, width / p, config_.in_channels);
  for (int64_t row = 0; row < frame.dim(0); ++row)
    for (int64_t column = 0; column < width; ++column) {
      const float* from = frame.as<float>() + (row * width + column) * c;
      float* to = out.as<float>() + ((row / p) * out.dim(1) + column / p) * config_.in_channels;
      for (int64_t k = 0; k < c; ++k) to[(k * p + column % p) * p + row % p] = from[k];
    }
  return out;
}

void VaeEncoder::encode(ConstTensor frame, const Sink& sink, StreamRef stream) {
  const int64_t channels = config_.in_channels / (config_.patch * config_.patch);
  const int64_t side = config_.spatial_factor;
  LT_CHECK(frame.rank() == 3 && frame.dim(2) == channels && frame.dim(0) % side == 0 &&
               frame.dim(1) % side == 0 && frame.numel() > 0 && frame.dense(),
           "expected a frame [height, width, {}] with sides that are multiples of {}, found {}",
           channels, side, frame.shape.text());
  LT_CHECK(!stream.on_gpu(), "the VAE's encoder runs on the CPU only");
  const VaePass pass{state_, pool_, stream};
  OwnedTensor x = patches(frame);
  OwnedTensor y = pool_.take(x.dim(0), x.dim(1), conv_in_.out());
  conv_in_.forward(std::move(x), false, y, pass);
  run_level(0, std::move(y), sink, pass);
  state_.first = false;
}

void VaeEncoder::run_level(size_t index, OwnedTensor x, const Sink& sink, const VaePass& pass) {
  if (index == levels_.size()) return finish(std::move(x), sink, pass);
  Level& level = levels_[index];
  // A pair is (1, 2), (3, 4), ...; the first frame stands alone, as the second of a pair.
  const bool gives = !level.temporal || pass.state.first || level.half;
  if (config_.residual) average(level, x, level.temporal && gives ? 1 : 0);
  for (const ResBlock& block : level.blocks) block.forward(x, pass);
  if (level.down) {
    std::optional<OwnedTensor> y = level.down->forward(std::move(x), gives, pass);
    level.half = !gives;
    if (!y) return;
    x = std::move(*y);
  }
  if (config_.residual) {
    add(level.shortcut, x, pass.stream);
    pool_.give(std::move(level.shortcut));
    level.shortcut = OwnedTensor();
  }
  run_level(index + 1, std::move(x), sink, pass);
}

// Parameter-free shortcut of the residual VAE (AvgDown3D, wan.md 5.4): output channel o is the mean
// of `group` consecutive values (c, a, i, j): channel, frame of the pair, row and column offset.
// `place` is the frame's place in its pair; a missing first frame counts as zeros.
void VaeEncoder::average(Level& level, ConstTensor x, int64_t place) {
  const int64_t fs = level.down ? 2 : 1, ft = level.temporal ? 2 : 1;
  const int64_t h = x.dim(0) / fs, w = x.dim(1) / fs, out = level.out;
  const int64_t group = level.in * ft * fs * fs / out;
  if (!level.shortcut) {
    level.shortcut = pool_.take(h, w, out);
    level.shortcut.fill_zero();
  }
  const float scale = 1.0f / static_cast<float>(group);
  for (int64_t row = 0; row < h * fs; ++row)
    for (int64_t column = 0; column < w * fs; ++column) {
      const float* from = x.as<float>() + (row * w * fs + column) * level.in;
      float* to = level.shortcut.as<float>() + ((row / fs) * w + column / fs) * out;
      for (int64_t c = 0; c < level.in; ++c)
        to[(((c * ft + place) * fs + row % fs) * fs + column % fs) / group] += from[c] * scale;
    }
}

void VaeEncoder::finish(OwnedTensor x, const Sink& sink, const VaePass& pass) {
  const int64_t h = x.dim(0), w = x.dim(1), n = h * w, z = config_.z_dim;
  mid_->forward(x, pass);
  OwnedTensor y = head_->forward(std::move(x), pass), moments = pool_.take(h, w, z);
  linear({.x = ConstTensor(y).reshape({n, 2 * z}), .y = moments.view().reshape({n, z})}, quant_,
         pass.stream);
  OwnedTensor mean(DType::f32, {z, h, w}), latent(DType::f32, {z, h, w});
  for (int64_t c = 0; c < z; ++c)
    for (int64_t p = 0; p < n; ++p) {
      const auto i = static_cast<size_t>(c);
      const float value = moments.as<float>()[p * z + c];
      mean.as<float>()[c * n + p] = value;
      latent.as<float>()[c * n + p] = (value - config_.latents_mean[i]) / config_.latents_std[i];
    }
  sink(mean, latent);
  pool_.give(std::move(y));
  pool_.give(std::move(moments));
}

}  // namespace longtake
