// Convolution of channels-last frames, causal in time: output frame t sees input frames t - kt + 1
// .. t. The caller hands over the frames one output frame needs, so history is pointers, never a
// copy.
#pragma once

#include <memory>
#include <span>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

// Packed weights [out, in, kt, kh, kw] and bias of a convolution. Sums are in f32; on a GPU the
// operands are of the dtype `compute`, on the CPU f32 whatever is asked.
class ConvWeights {
 public:
  struct Packed {  // what a backend makes of them
    virtual ~Packed() = default;
    virtual size_t bytes() const = 0;
  };

  ConvWeights();
  // weight f32 [out, in, kt, kh, kw] or [out, in, kh, kw] (kt = 1), bias f32 [out] or empty; on the
  // host. compute: f32 or bf16.
  ConvWeights(ConstTensor weight, ConstTensor bias, int64_t stride, DType compute,
              StreamRef stream);
  ~ConvWeights();
  ConvWeights(ConvWeights&&) noexcept;
  ConvWeights& operator=(ConvWeights&&) noexcept;

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  int64_t taps() const { return kt_; }
  int64_t kernel_rows() const { return kh_; }
  int64_t kernel_columns() const { return kw_; }
  int64_t stride() const { return stride_; }
  DType compute() const { return compute_; }
  const float* bias() const { return bias_ ? bias_.as<float>() : nullptr; }
  Packed& packed() const { return *packed_; }
  size_t bytes() const;

 private:
  int64_t in_ = 0, out_ = 0, kt_ = 1, kh_ = 1, kw_ = 1, stride_ = 1;
  DType compute_ = DType::f32;
  OwnedTensor bias_;
  std::unique_ptr<Packed> packed_;
};

// Zeros around the frame.
struct Padding {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
};

// y = conv(frames) + bias, or y += that when `accumulate`. frames: kt tensors [height, width, in],
// oldest first, empty ones are zeros; all of the compute dtype, or f32, which is rounded to it.
// y f32 [height', width', out].
void conv(std::span<const ConstTensor> frames, const ConvWeights& weights, Padding padding,
          bool accumulate, Tensor y, StreamRef stream);

// y[2 h + i][2 w + j][o] = x[h][w][((o times + time) 4 + 2 i + j) in / (4 times out)]: channels
// become pixels in space and, with times = 2, frames in time (DupUp3D, wan.md 5.4). x f32 [h, w,
// in], y f32 [2 h, 2 w, out].
void upsample_duplicate(ConstTensor x, int64_t times, int64_t time, Tensor y, StreamRef stream);

// y[2 h + i][2 w + j] = x[h][w]: x [height, width, c], y [2 height, 2 width, c], both f32 or, on a
// GPU, both bf16.
void upsample_nearest(ConstTensor x, Tensor y, StreamRef stream);

}  // namespace longtake
