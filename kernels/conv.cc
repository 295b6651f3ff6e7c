#include "kernels/conv.h"

#include <cstring>

#include "kernels/base/error.h"
#include "kernels/cpu/conv.h"
#include "kernels/cuda/conv.h"

namespace longtake {

ConvWeights::ConvWeights() = default;
ConvWeights::~ConvWeights() = default;
ConvWeights::ConvWeights(ConvWeights&&) noexcept = default;
ConvWeights& ConvWeights::operator=(ConvWeights&&) noexcept = default;

ConvWeights::ConvWeights(ConstTensor weight, ConstTensor bias, int64_t stride, DType compute,
                         StreamRef stream)
    : stride_(stride), compute_(stream.on_gpu() ? compute : DType::f32) {
  LT_CHECK(
      (weight.rank() == 5 || weight.rank() == 4) && weight.dtype == DType::f32 && weight.dense(),
      "conv: expected a weight f32 [out, in, (frames,) rows, columns], found {} {}",
      name(weight.dtype), weight.shape.text());
  LT_CHECK(compute == DType::f32 || compute == DType::bf16, "conv: cannot compute in {}",
           name(compute));
  const int last = weight.rank() - 1;
  out_ = weight.dim(0);
  in_ = weight.dim(1);
  kt_ = weight.rank() == 5 ? weight.dim(2) : 1;
  kh_ = weight.dim(last - 1);
  kw_ = weight.dim(last);
  LT_CHECK(!bias || (bias.numel() == out_ && bias.dtype == DType::f32),
           "conv: expected a bias f32 [{}], found {}", out_, bias.shape.text());
  const ConstTensor matrix = weight.reshape({out_, in_, kt_, kh_, kw_});
  if (stream.on_gpu()) {
    packed_ = cuda::pack_conv(matrix, bias, compute, stream);
    return;
  }
  if (bias) {
    bias_ = OwnedTensor(DType::f32, {out_});
    std::memcpy(bias_.as<float>(), bias.data, bias_.bytes());
  }
  packed_ = cpu::pack_conv(matrix, stride, stream);
}

size_t ConvWeights::bytes() const {
  return packed_ ? packed_->bytes() : 0;
}

void conv(std::span<const ConstTensor> frames, const ConvWeights& w, Padding p, bool accumulate,
          Tensor y, StreamRef stream) {
  LT_CHECK(static_cast<int64_t>(frames.size()) == w.taps(), "conv: expected {} frames, found {}",
           w.taps(), frames.size());
  const ConstTensor& newest = frames.back();
  LT_CHECK(newest && newest.rank() == 3 && newest.dim(2) == w.in(),
           "conv: expected the newest frame [height, width, {}], found {}", w.in(),
           newest.shape.text());
  LT_CHECK(newest.dtype == DType::f32 || newest.dtype == w.compute(),
           "conv: expected frames f32 or {}, found {}", name(w.compute()), name(newest.dtype));
  for (const ConstTensor& frame : frames)
    LT_CHECK(
        !frame || (frame.shape == newest.shape && frame.dtype == newest.dtype && frame.dense()),
        "conv: expected dense {} frames {}, found {} {}", name(newest.dtype), newest.shape.text(),
        name(frame.dtype), frame.shape.text());
  const int64_t rows = (newest.dim(0) + p.top + p.bottom - w.kernel_rows()) / w.stride() + 1;
  const int64_t columns = (newest.dim(1) + p.left + p.right - w.kernel_columns()) / w.stride() + 1;
  LT_CHECK(y.shape == Shape({rows, columns, w.out()}) && y.dtype == DType::f32 && y.dense(),
           "conv: expected an output f32 [{}, {}, {}], found {} {}", rows, columns, w.out(),
           name(y.dtype), y.shape.text());
  if (stream.on_gpu())
    cuda::conv(frames, w, p, accumulate, y, stream);
  else
    cpu::conv(frames, w, p, accumulate, y, stream);
}

void upsample_duplicate(ConstTensor x, int64_t times, int64_t time, Tensor y, StreamRef stream) {
  const int64_t width = x.dim(1), in = x.dim(2), out = y.dim(2);
  LT_CHECK(x.rank() == 3 && y.shape == Shape({2 * x.dim(0), 2 * width, out}) && x.dense() &&
               y.dense() && 0 <= time && time < times && out * times * 4 % in == 0,
           "upsample_duplicate: {} cannot become {}, {} of {}", x.shape.text(), y.shape.text(),
           time, times);
  if (stream.on_gpu()) return cuda::upsample_duplicate(x, times, time, y, stream);
  const int64_t repeats = out * times * 4 / in;
  stream.pool().parallel_for(y.dim(0), [&](int64_t row, int) {
    for (int64_t column = 0; column < 2 * width; ++column) {
      const float* from = x.as<float>() + ((row / 2) * width + column / 2) * in;
      float* to = y.as<float>() + (row * 2 * width + column) * out;
      for (int64_t o = 0; o < out; ++o)
        to[o] = from[((o * times + time) * 4 + (row % 2) * 2 + column % 2) / repeats];
    }
  });
}

void upsample_nearest(ConstTensor x, Tensor y, StreamRef stream) {
  LT_CHECK(x.rank() == 3 && y.shape == Shape({2 * x.dim(0), 2 * x.dim(1), x.dim(2)}) && x.dense() &&
               y.dense() && x.dtype == y.dtype,
           "upsample_nearest: {} {} cannot become {} {}", name(x.dtype), x.shape.text(),
           name(y.dtype), y.shape.text());
  if (stream.on_gpu()) return cuda::upsample_nearest(x, y, stream);
  const int64_t width = x.dim(1), c = x.dim(2);
  const float* from = x.as<float>();
  float* to = y.as<float>();
  stream.pool().parallel_for(x.dim(0), [&](int64_t h, int) {
    float* row = to + 2 * h * 2 * width * c;
    for (int64_t w = 0; w < width; ++w)
      for (int64_t j = 0; j < 2; ++j)
        std::memcpy(row + (2 * w + j) * c, from + (h * width + w) * c,
                    static_cast<size_t>(c) * sizeof(float));
    std::memcpy(row + 2 * width * c, row, static_cast<size_t>(2 * width * c) * sizeof(float));
  });
}

}  // namespace longtake
