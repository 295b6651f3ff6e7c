// CUDA backend of kernels/conv.h.
#pragma once

#include "kernels/conv.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// weight f32 [out, in, kt, kh, kw], bias f32 [out] or empty, on the host or on the stream's GPU.
std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor weight, ConstTensor bias,
                                               StreamRef stream);
void conv(std::span<const ConstTensor> frames, const ConvWeights& weights, Padding padding,
          bool accumulate, Tensor y, StreamRef stream);
void upsample_duplicate(ConstTensor x, int64_t times, int64_t time, Tensor y, StreamRef stream);
void upsample_nearest(ConstTensor x, Tensor y, StreamRef stream);

}  // namespace longtake::cuda
