#include "runtime/model/vae_layers.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"

namespace longtake {

namespace {

constexpr Padding kAround1{1, 1, 1, 1};

ConstTensor positions(ConstTensor frame) {
  return frame.reshape({frame.dim(0) * frame.dim(1), frame.dim(2)});
}
Tensor positions(Tensor frame) {
  return frame.reshape({frame.dim(0) * frame.dim(1), frame.dim(2)});
}

OwnedTensor read_gamma(const Weights& weights, const std::string& name, int64_t channels,
                       StreamRef stream) {
  const Shape stored = weights.shape(name);  // [C, 1, 1, 1] or [C, 1, 1]
  LT_CHECK(stored.numel() == channels, "{}: expected {} values, found {}", name, channels,
           stored.text());
  return weights.read(name, stored, DType::f32, stream);
}

}  // namespace

OwnedTensor FramePool::take(int64_t height, int64_t width, int64_t channels) {
  const Shape shape{height, width, channels};
  for (size_t i = free_.size(); i-- > 0;) {
    if (free_[i].shape() != shape) continue;
    OwnedTensor frame = std::move(free_[i]);
    free_.erase(free_.begin() + static_cast<ptrdiff_t>(i));
    return frame;
  }
  return OwnedTensor(DType::f32, shape);
}

void FramePool::give(OwnedTensor&& frame) {
  if (frame) free_.push_back(std::move(frame));
}

CausalConv::CausalConv(const Weights& weights, const std::string& name, const Shape& shape,
                       int64_t first, int64_t count, StreamRef stream) {
  LT_CHECK(shape.rank() == 5 && shape[2] == 3, "{}: expected 3 taps in time, found {}", name,
           shape.text());
  const OwnedTensor weight = weights.read(name + ".weight", shape, DType::f32, stream);
  const OwnedTensor bias = weights.read(name + ".bias", {shape[0]}, DType::f32, stream);
  weights_ = ConvWeights(ConstTensor(weight).rows(first, first + count),
                         ConstTensor(bias).rows(first, first + count), 1, stream);
}

void CausalConv::forward(ConstTensor x, bool accumulate, Tensor y, StreamRef stream) {
  std::array<ConstTensor, 3> frames{ConstTensor{}, ConstTensor{}, x};
  if (frames_ > 1) frames[0] = history_[0];
  if (frames_ > 0) frames[1] = history_[1];
  conv(frames, weights_, weights_.kernel_rows() == 3 ? kAround1 : Padding{}, accumulate, y, stream);
  std::swap(history_[0], history_[1]);
  if (!history_[1] || history_[1].shape() != x.shape)
    history_[1] = OwnedTensor(DType::f32, x.shape);
  convert(x, history_[1], stream);
  frames_ = std::min(2, frames_ + 1);
}

void CausalConv::reset() {
  frames_ = 0;
}

ResBlock::ResBlock(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
                   StreamRef stream)
    : norm1_(read_gamma(weights, prefix + ".norm1.gamma", in, stream)),
      norm2_(read_gamma(weights, prefix + ".norm2.gamma", out, stream)),
      conv1_(weights, prefix + ".conv1", {out, in, 3, 3, 3}, stream),
      conv2_(weights, prefix + ".conv2", {out, out, 3, 3, 3}, stream) {
  if (in == out) return;
  const std::string name = prefix + ".conv_shortcut";
  shortcut_ = ConvWeights(weights.read(name + ".weight", {out, in, 1, 1, 1}, DType::f32, stream),
                          weights.read(name + ".bias", {out}, DType::f32, stream), 1, stream);
}

void ResBlock::forward(OwnedTensor& x, FramePool& pool, StreamRef stream) {
  const int64_t h = x.dim(0), w = x.dim(1), out = conv1_.out();
  OwnedTensor normed = pool.take(h, w, x.dim(2)), inner = pool.take(h, w, out);
  frame_norm_silu(x, norm1_, true, normed, stream);
  conv1_.forward(normed, false, inner, stream);
  pool.give(std::move(normed));
  frame_norm_silu(inner, norm2_, true, inner, stream);
  if (shortcut_.out() != 0) {
    OwnedTensor y = pool.take(h, w, out);
    const ConstTensor frame = x.view();
    conv({&frame, 1}, shortcut_, {}, false, y, stream);
    std::swap(x, y);
    pool.give(std::move(y));
  }
  conv2_.forward(inner, true, x, stream);
  pool.give(std::move(inner));
}

void ResBlock::reset() {
  conv1_.reset();
  conv2_.reset();
}

FrameAttention::FrameAttention(const Weights& weights, const std::string& prefix, int64_t channels,
                               StreamRef stream)
    : norm_(read_gamma(weights, prefix + ".norm.gamma", channels, stream)),
      qkv_(weights.linear(prefix + ".to_qkv", 3 * channels, channels, true, DType::f32, stream)),
      proj_(weights.linear(prefix + ".proj", channels, channels, true, DType::f32, stream)) {}

void FrameAttention::forward(OwnedTensor& x, FramePool& pool, StreamRef stream) const {
  const int64_t n = x.dim(0) * x.dim(1), c = x.dim(2);
  OwnedTensor normed = pool.take(x.dim(0), x.dim(1), c), qkv = pool.take(x.dim(0), x.dim(1), 3 * c);
  frame_norm_silu(x, norm_, false, normed, stream);
  const Tensor rows = positions(qkv.view());
  linear({.x = positions(ConstTensor(normed)), .y = rows}, qkv_, stream);
  const auto head = [&](int64_t part) {
    return ConstTensor(rows).columns(part * c, (part + 1) * c).reshape({n, 1, c});
  };
  const KeySegment keys{head(1), head(2)};
  attention({.q = head(0),
             .segments = {&keys, 1},
             .out = normed.view().reshape({n, 1, c}),
             .scale = 1.0f / std::sqrt(static_cast<float>(c))},
            stream);
  linear({.x = positions(ConstTensor(normed)), .residual = positions(x.view())}, proj_, stream);
  pool.give(std::move(normed));
  pool.give(std::move(qkv));
}

void frame_norm_silu(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, StreamRef stream) {
  channel_norm_silu(positions(x), gamma, activate, positions(y), stream);
}

}  // namespace longtake
