#include "runtime/model/vae_layers.h"

#include <algorithm>
#include <cmath>
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

// y = silu(norm(x)), all channels of a position.
void frame_norm_silu(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, StreamRef stream) {
  channel_norm_silu(positions(x), gamma, activate, positions(y), stream);
}

// silu(norm(x)) of the given dtype: in place of x when it has that.
OwnedTensor activated(OwnedTensor x, ConstTensor gamma, DType dtype, const VaePass& pass) {
  if (x.dtype() == dtype) {
    frame_norm_silu(x, gamma, true, x, pass.stream);
    return x;
  }
  OwnedTensor y = pass.pool.take(x.dim(0), x.dim(1), x.dim(2), dtype);
  frame_norm_silu(x, gamma, true, y, pass.stream);
  pass.pool.give(std::move(x));
  return y;
}

}  // namespace

OwnedTensor FramePool::take(int64_t height, int64_t width, int64_t channels, DType dtype) {
  const Shape shape{height, width, channels};
  for (size_t i = free_.size(); i-- > 0;) {
    if (free_[i].shape() != shape || free_[i].dtype() != dtype) continue;
    OwnedTensor frame = std::move(free_[i]);
    free_.erase(free_.begin() + static_cast<ptrdiff_t>(i));
    return frame;
  }
  OwnedTensor frame(dtype, shape, device_);
  bytes_ += static_cast<int64_t>(frame.bytes());
  peak_bytes_ = std::max(peak_bytes_, bytes_);
  return frame;
}

void FramePool::give(OwnedTensor&& frame) {
  if (frame) free_.push_back(std::move(frame));
}

void FramePool::trim() {
  for (const OwnedTensor& frame : free_) bytes_ -= static_cast<int64_t>(frame.bytes());
  free_.clear();
}

std::array<ConstTensor, 3> History::with(ConstTensor x) const {
  return {frames_[0], frames_[1], x};
}

void History::push(OwnedTensor&& x, FramePool& pool) {
  pool.give(std::move(frames_[0]));
  frames_[0] = std::move(frames_[1]);
  frames_[1] = std::move(x);
}

void release(VaeState&& state, FramePool& pool) {
  for (History& history : state.slots)
    for (OwnedTensor& frame : history.frames()) pool.give(std::move(frame));
  state.slots.clear();
}

CausalConv::CausalConv(const Weights& weights, const std::string& name, const Shape& shape,
                       DType compute, int& slots, StreamRef stream)
    : weights_(read_conv(weights, name, shape, 1, compute, stream)),
      slot_(static_cast<size_t>(slots++)) {
  LT_CHECK(shape.rank() == 5 && shape[2] == 3, "{}: expected 3 taps in time, found {}", name,
           shape.text());
}

void CausalConv::forward(OwnedTensor x, bool accumulate, Tensor y, const VaePass& pass) const {
  History& history = pass.state.slots[slot_];
  conv(history.with(x), weights_, weights_.kernel_rows() == 3 ? kAround1 : Padding{}, accumulate, y,
       pass.stream);
  history.push(std::move(x), pass.pool);
}

ResBlock::ResBlock(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
                   DType compute, int& slots, StreamRef stream)
    : norm1_(read_gamma(weights, prefix + ".norm1.gamma", in, stream)),
      norm2_(read_gamma(weights, prefix + ".norm2.gamma", out, stream)),
      conv1_(weights, prefix + ".conv1", {out, in, 3, 3, 3}, compute, slots, stream),
      conv2_(weights, prefix + ".conv2", {out, out, 3, 3, 3}, compute, slots, stream) {
  if (in != out)
    shortcut_ =
        read_conv(weights, prefix + ".conv_shortcut", {out, in, 1, 1, 1}, 1, compute, stream);
}

void ResBlock::forward(OwnedTensor& x, const VaePass& pass) const {
  FramePool& pool = pass.pool;
  const int64_t h = x.dim(0), w = x.dim(1), out = conv1_.out();
  const DType compute = conv1_.compute();
  OwnedTensor normed = pool.take(h, w, x.dim(2), compute), inner = pool.take(h, w, out);
  frame_norm_silu(x, norm1_, true, normed, pass.stream);
  conv1_.forward(std::move(normed), false, inner, pass);
  inner = activated(std::move(inner), norm2_, compute, pass);
  if (shortcut_.out() != 0) {
    OwnedTensor y = pool.take(h, w, out);
    const ConstTensor frame = x.view();
    conv({&frame, 1}, shortcut_, {}, false, y, pass.stream);
    std::swap(x, y);
    pool.give(std::move(y));
  }
  conv2_.forward(std::move(inner), true, x, pass);
}

FrameAttention::FrameAttention(const Weights& weights, const std::string& prefix, int64_t channels,
                               DType compute, StreamRef stream)
    : norm_(read_gamma(weights, prefix + ".norm.gamma", channels, stream)),
      qkv_(weights.linear(prefix + ".to_qkv", 3 * channels, channels, true, compute, stream)),
      proj_(weights.linear(prefix + ".proj", channels, channels, true, compute, stream)) {}

void FrameAttention::forward(OwnedTensor& x, const VaePass& pass) const {
  const int64_t h = x.dim(0), w = x.dim(1), n = h * w, c = x.dim(2);
  const DType compute = qkv_.compute();
  OwnedTensor normed = pass.pool.take(h, w, c, compute), qkv = pass.pool.take(h, w, 3 * c, compute);
  frame_norm_silu(x, norm_, false, normed, pass.stream);
  const Tensor rows = positions(qkv.view());
  linear({.x = positions(ConstTensor(normed)), .y = rows}, qkv_, pass.stream);
  const auto head = [&](int64_t part) {
    return ConstTensor(rows).columns(part * c, (part + 1) * c).reshape({n, 1, c});
  };
  const KeySegment keys{head(1), head(2)};
  attention({.q = head(0),
             .segments = {&keys, 1},
             .out = normed.view().reshape({n, 1, c}),
             .scale = 1.0f / std::sqrt(static_cast<float>(c))},
            pass.stream);
  linear({.x = positions(ConstTensor(normed)), .residual = positions(x.view())}, proj_,
         pass.stream);
  pass.pool.give(std::move(normed));
  pass.pool.give(std::move(qkv));
}

MidBlock::MidBlock(const Weights& weights, const std::string& prefix, int64_t channels,
                   DType compute, int& slots, StreamRef stream)
    : first_(weights, prefix + ".resnets.0", channels, channels, compute, slots, stream),
      attention_(weights, prefix + ".attentions.0", channels, compute, stream),
      second_(weights, prefix + ".resnets.1", channels, channels, compute, slots, stream) {}

void MidBlock::forward(OwnedTensor& x, const VaePass& pass) const {
  first_.forward(x, pass);
  attention_.forward(x, pass);
  second_.forward(x, pass);
}

VaeHead::VaeHead(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
                 DType compute, int& slots, StreamRef stream)
    : norm_(read_gamma(weights, prefix + ".norm_out.gamma", in, stream)),
      conv_(weights, prefix + ".conv_out", {out, in, 3, 3, 3}, compute, slots, stream) {}

OwnedTensor VaeHead::forward(OwnedTensor x, const VaePass& pass) const {
  OwnedTensor y = pass.pool.take(x.dim(0), x.dim(1), conv_.out());
  conv_.forward(activated(std::move(x), norm_, conv_.compute(), pass), false, y, pass);
  return y;
}

ConvWeights read_conv(const Weights& weights, const std::string& name, const Shape& shape,
                      int64_t stride, DType compute, StreamRef stream) {
  const StreamRef host(stream.pool());
  return ConvWeights(weights.read(name + ".weight", shape, DType::f32, host),
                     weights.read(name + ".bias", {shape[0]}, DType::f32, host), stride, compute,
                     stream);
}

OwnedTensor in_dtype(OwnedTensor x, DType compute, const VaePass& pass) {
  if (x.dtype() == compute) return x;
  OwnedTensor y = pass.pool.take(x.dim(0), x.dim(1), x.dim(2), compute);
  convert(x, y, pass.stream);
  pass.pool.give(std::move(x));
  return y;
}

}  // namespace longtake
