// Building blocks of the Wan VAE (wan.md 5.1, 5.3), one frame at a time: [height, width, channels].
// Frames are f32; what goes into convolutions, and so what they remember, is of the dtype that they
// compute in (kernels/conv.h): bf16 only on a GPU. What a video leaves behind for its next frames
// lies in a VaeState, beside the layers, so that a video of any length takes constant memory and
// one set of weights serves many videos.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kernels/conv.h"
#include "kernels/linear.h"
#include "runtime/model/weights.h"

namespace longtake {

// Frames are large and come and go: memory that was used once is used again.
class FramePool {
 public:
  FramePool() = default;
  explicit FramePool(const Device& device) : device_(device) {}
  bool on_host() const { return device_.type == DeviceType::cpu; }
  OwnedTensor take(int64_t height, int64_t width, int64_t channels, DType dtype = DType::f32);
  void give(OwnedTensor&& frame);
  void trim();  // frees what is not in use: frames of another size come next
  // Most memory that was held at a time, in use or not; every frame must be given back.
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  Device device_;
  std::vector<OwnedTensor> free_;
  int64_t bytes_ = 0, peak_bytes_ = 0;
};

// The last two inputs of a convolution in time.
class History {
 public:
  // The three frames that the convolution of x sees, oldest first; empty ones are zeros.
  std::array<ConstTensor, 3> with(ConstTensor x) const;
  void push(OwnedTensor&& x, FramePool& pool);
  std::array<OwnedTensor, 2>& frames() { return frames_; }  // to be put aside and restored

 private:
  std::array<OwnedTensor, 2> frames_;  // older, newer
};

// One History for each convolution in time of an encoder or a decoder.
struct VaeState {
  std::vector<History> slots;
  bool first = true;  // no frame has been seen
};
void release(VaeState&& state, FramePool& pool);

// The way of one frame through the layers.
struct VaePass {
  VaeState& state;
  FramePool& pool;
  StreamRef stream;
};

// A 3-tap convolution in time, any kernel in space, padded to keep the size.
class CausalConv {
 public:
  CausalConv() = default;
  // shape [out, in, 3, kh, kw] as stored. Takes the next of `slots`.
  CausalConv(const Weights& weights, const std::string& name, const Shape& shape, DType compute,
             int& slots, StreamRef stream);
  // y (+)= conv(history, x); x becomes history, always of one dtype. y f32 [height, width, out].
  void forward(OwnedTensor x, bool accumulate, Tensor y, const VaePass& pass) const;
  int64_t out() const { return weights_.out(); }
  DType compute() const { return weights_.compute(); }

 private:
  ConvWeights weights_;
  size_t slot_ = 0;
};

// x <- shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))
class ResBlock {
 public:
  ResBlock(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
           DType compute, int& slots, StreamRef stream);
  void forward(OwnedTensor& x, const VaePass& pass) const;

 private:
  OwnedTensor norm1_, norm2_;  // f32 [channels]
  CausalConv conv1_, conv2_;
  ConvWeights shortcut_;  // empty: identity
};

// Single-head attention over the positions of one frame; x <- x + proj(attention(norm(x))).
class FrameAttention {
 public:
  FrameAttention(const Weights& weights, const std::string& prefix, int64_t channels, DType compute,
                 StreamRef stream);
  void forward(OwnedTensor& x, const VaePass& pass) const;

 private:
  OwnedTensor norm_;
  Linear qkv_, proj_;
};

// The middle of encoder and decoder: ResBlock, FrameAttention, ResBlock.
class MidBlock {
 public:
  MidBlock(const Weights& weights, const std::string& prefix, int64_t channels, DType compute,
           int& slots, StreamRef stream);
  void forward(OwnedTensor& x, const VaePass& pass) const;

 private:
  ResBlock first_;
  FrameAttention attention_;
  ResBlock second_;
};

// The end of encoder and decoder: conv(silu(norm(x))).
class VaeHead {
 public:
  VaeHead(const Weights& weights, const std::string& prefix, int64_t in, int64_t out, DType compute,
          int& slots, StreamRef stream);
  OwnedTensor forward(OwnedTensor x, const VaePass& pass) const;

 private:
  OwnedTensor norm_;
  CausalConv conv_;
};

// The weight `name`.weight of the given shape and `name`.bias.
ConvWeights read_conv(const Weights& weights, const std::string& name, const Shape& shape,
                      int64_t stride, DType compute, StreamRef stream);

// x as a convolution of `compute` wants it.
OwnedTensor in_dtype(OwnedTensor x, DType compute, const VaePass& pass);

}  // namespace longtake
