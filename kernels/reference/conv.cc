#include "kernels/reference/conv.h"

#include "kernels/base/error.h"

namespace longtake::reference {

namespace {

// What one output position adds up: x at (t, y, w) of the padded input, zero outside.
struct Window {
  std::span<const double> x;
  std::span<const double> weight;
  const ConvShape& s;

  double at(int64_t t, int64_t y, int64_t w, int64_t channel) const {
    if (t < 0 || t >= s.frames || y < 0 || y >= s.height || w < 0 || w >= s.width) return 0;
    return x[static_cast<size_t>(((t * s.height + y) * s.width + w) * s.in + channel)];
  }

  // The window's first position is (t, y, w).
  double sum(int64_t o, int64_t t, int64_t y, int64_t w) const {
    double total = 0;
    for (int64_t c = 0; c < s.in; ++c)
      for (int64_t i = 0; i < s.kt; ++i)
        for (int64_t j = 0; j < s.kh; ++j)
          for (int64_t k = 0; k < s.kw; ++k)
            total +=
                at(t + i, y + j, w + k, c) *
                weight[static_cast<size_t>((((o * s.in + c) * s.kt + i) * s.kh + j) * s.kw + k)];
    return total;
  }
};

}  // namespace

std::vector<double> causal_conv3d(std::span<const double> x, std::span<const double> weight,
                                  std::span<const double> bias, const ConvShape& s) {
  LT_CHECK(s.kh % 2 == 1 && s.kw % 2 == 1, "expected an odd kernel, found {} x {}", s.kh, s.kw);
  const Window window{x, weight, s};
  std::vector<double> y;
  y.reserve(static_cast<size_t>(s.frames * s.height * s.width * s.out));
  for (int64_t t = 0; t < s.frames; ++t)
    for (int64_t h = 0; h < s.height; ++h)
      for (int64_t w = 0; w < s.width; ++w)
        for (int64_t o = 0; o < s.out; ++o)
          y.push_back((bias.empty() ? 0.0 : bias[static_cast<size_t>(o)]) +
                      window.sum(o, t - (s.kt - 1), h - s.kh / 2, w - s.kw / 2));
  return y;
}

std::vector<double> conv2d(std::span<const double> x, std::span<const double> weight,
                           std::span<const double> bias, const ConvShape& s, int64_t stride) {
  LT_CHECK(s.kt == 1, "expected one frame in the kernel, found {}", s.kt);
  if (stride == 1) return causal_conv3d(x, weight, bias, s);
  LT_CHECK(stride == 2, "expected stride 1 or 2, found {}", stride);
  const Window window{x, weight, s};
  const int64_t height = (s.height + 1 - s.kh) / 2 + 1, width = (s.width + 1 - s.kw) / 2 + 1;
  std::vector<double> y;
  for (int64_t t = 0; t < s.frames; ++t)
    for (int64_t h = 0; h < height; ++h)
      for (int64_t w = 0; w < width; ++w)
        for (int64_t o = 0; o < s.out; ++o)
          y.push_back((bias.empty() ? 0.0 : bias[static_cast<size_t>(o)]) +
                      window.sum(o, t, 2 * h, 2 * w));
  return y;
}

}  // namespace longtake::reference
