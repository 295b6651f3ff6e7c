// CPU backend of kernels/conv.h: a 3-D convolution is the sum of one 2-D convolution per time tap,
// each by oneDNN on a strip of rows that stays in cache.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "kernels/conv.h"

namespace longtake {

namespace cpu {

// Each tap's weights in the layouts that were asked for so far; made from the first when first
// used.
struct PackedConv : ConvWeights::Packed {
  struct Tap {
    std::vector<std::pair<int, Buffer>> layouts;
    bool plain_in_use = false;  // some kernel reads the plain layout: it stays
  };
  std::vector<Tap> taps;  // oldest frame first
  int plain_layout = 0;
  mutable std::mutex mutex;

  size_t bytes() const override;
  const void* in_layout(size_t tap, int layout);
};

std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor weight, int64_t stride,
                                               StreamRef stream);
void conv(std::span<const ConstTensor> frames, const ConvWeights& weights, Padding padding,
          bool accumulate, Tensor y, StreamRef stream);

}  // namespace cpu
}  // namespace longtake
