// CPU backend of kernels/conv.h: a 3-D convolution is the sum of one 2-D convolution per time tap,
// each by oneDNN on a strip of rows that stays in cache.
#pragma once

#include <vector>

#include "kernels/conv.h"

namespace longtake {

struct ConvWeights::Packed {
  std::vector<Buffer> taps;  // oldest frame first
  size_t bytes() const;
};

namespace cpu {

std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor weight, int64_t stride,
                                               StreamRef stream);
void conv(std::span<const ConstTensor> frames, const ConvWeights& weights, Padding padding,
          bool accumulate, Tensor y, StreamRef stream);

}  // namespace cpu
}  // namespace longtake
