// Building blocks of the Wan VAE (wan.md 5.1, 5.3), one frame at a time: f32 [height, width,
// channels]. Convolutions in time keep the frames they will need, so a video of any length is
// decoded in constant memory and without seams.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "kernels/conv.h"
#include "kernels/linear.h"
#include "runtime/model/weights.h"

namespace longtake {

// Frames are large and come and go: memory that was used once is used again.
class FramePool {
 public:
  OwnedTensor take(int64_t height, int64_t width, int64_t channels);
  void give(OwnedTensor&& frame);

 private:
  std::vector<OwnedTensor> free_;
};

// A 3-tap convolution in time (any kernel in space, padded to keep the size) and its last two
// inputs.
class CausalConv {
 public:
  CausalConv() = default;
  // shape [out, in, 3, kh, kw] as stored; `count` output channels from `first` on are used.
  CausalConv(const Weights& weights, const std::string& name, const Shape& shape, StreamRef stream)
      : CausalConv(weights, name, shape, 0, shape[0], stream) {}
  CausalConv(const Weights& weights, const std::string& name, const Shape& shape, int64_t first,
             int64_t count, StreamRef stream);
  // y (+)= conv(history, x); keeps a copy of x. y f32 [height, width, out].
  void forward(ConstTensor x, bool accumulate, Tensor y, StreamRef stream);
  void reset();  // a new video: no history
  int64_t out() const { return weights_.out(); }

 private:
  ConvWeights weights_;
  std::array<OwnedTensor, 2> history_;  // older, newer
  int frames_ = 0;                      // how many of them count
};

// x <- shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))
class ResBlock {
 public:
  ResBlock(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
           StreamRef stream);
  void forward(OwnedTensor& x, FramePool& pool, StreamRef stream);
  void reset();

 private:
  OwnedTensor norm1_, norm2_;  // f32 [channels]
  CausalConv conv1_, conv2_;
  ConvWeights shortcut_;  // empty: identity
};

// Single-head attention over the positions of one frame; x <- x + proj(attention(norm(x))).
class FrameAttention {
 public:
  FrameAttention(const Weights& weights, const std::string& prefix, int64_t channels,
                 StreamRef stream);
  void forward(OwnedTensor& x, FramePool& pool, StreamRef stream) const;

 private:
  OwnedTensor norm_;
  Linear qkv_, proj_;
};

// y = silu(norm(x)), all channels of a position.
void frame_norm_silu(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, StreamRef stream);

}  // namespace longtake
