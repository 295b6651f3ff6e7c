// Convolutions of channels-last frames in double precision: the oracle of the VAE's convolutions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longtake::reference {

struct ConvShape {
  int64_t frames = 1, height = 1, width = 1;  // of the input
  int64_t in = 1, out = 1;                    // channels
  int64_t kt = 1, kh = 1, kw = 1;             // kh and kw odd
};

// x [frames, height, width, in], weight [out, in, kt, kh, kw], bias [out] or empty ->
// [frames, height, width, out]. Zeros around a frame, kh / 2 and kw / 2 on each side; in time kt -
// 1 zero frames in front: a frame sees itself and earlier ones only.
std::vector<double> causal_conv3d(std::span<const double> x, std::span<const double> weight,
                                  std::span<const double> bias, const ConvShape& shape);

// Every frame on its own: weight [out, in, kh, kw]; shape.kt must be 1. With stride 2 the padding
// is one row below and one column on the right instead (the VAE's downsampling), and the result is
// [frames, (height + 1 - kh) / 2 + 1, (width + 1 - kw) / 2 + 1, out].
std::vector<double> conv2d(std::span<const double> x, std::span<const double> weight,
                           std::span<const double> bias, const ConvShape& shape,
                           int64_t stride = 1);

}  // namespace longtake::reference
