// Tensors for tests of row-wise operators: elements as doubles, views of wider matrices, and how
// far a result may lie from the oracle.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/base/tensor.h"
#include "tests/support/random.h"

namespace longtake::testing {

constexpr double kUnit32 = 0x1p-24;  // half the distance of neighbouring f32 at 1
constexpr double kUnit16 = 0x1p-8;   // the same of bf16
constexpr DType kComputeTypes[] = {DType::f32, DType::bf16};

inline double element(const ConstTensor& x, int64_t row, int64_t i) {
  const int64_t at = row * x.row_stride + i;
  return x.dtype == DType::bf16 ? double{to_float(x.as<bf16>()[at])} : double{x.as<float>()[at]};
}

inline std::vector<double> to_doubles(const ConstTensor& x) {
  std::vector<double> out;
  out.reserve(static_cast<size_t>(x.numel()));
  for (int64_t row = 0; row < x.dim(0); ++row)
    for (int64_t i = 0; i < x.shape.inner_numel(); ++i) out.push_back(element(x, row, i));
  return out;
}

inline bool same_bits(const OwnedTensor& a, const OwnedTensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.view().data, b.view().data, a.bytes()) == 0;
}

// Columns [3, 3 + columns) of a random matrix with eight more columns.
class Strided {
 public:
  Strided(int64_t rows, int64_t columns, uint64_t seed, DType dtype = DType::f32, float scale = 1)
      : columns_(columns), wide_(random_tensor({rows, columns + 8}, seed, scale, dtype)) {}

  Tensor view() { return wide_.view().columns(3, 3 + columns_); }
  ConstTensor view() const { return wide_.view().columns(3, 3 + columns_); }
  std::vector<double> doubles() const { return to_doubles(view()); }
  const OwnedTensor& wide() const { return wide_; }

  // Are the columns outside of the view what they were in `before`?
  bool kept_outside(const Strided& before) const {
    for (int64_t row = 0; row < wide_.dim(0); ++row)
      for (int64_t i = 0; i < wide_.dim(1); ++i)
        if ((i < 3 || i >= 3 + columns_) && element(wide_, row, i) != element(before.wide_, row, i))
          return false;
    return true;
  }

 private:
  int64_t columns_;
  OwnedTensor wide_;
};

// The largest ratio of a difference to its bound, below 1 where all is well; NaN where only one
// side is NaN counts as infinite. Rounding of the result to its type is added to `bound`, and
// 2^-126: what is smaller may become zero.
inline double worst_ratio(const ConstTensor& got, const std::vector<double>& expected,
                          const std::vector<double>& bound) {
  const double unit = got.dtype == DType::bf16 ? kUnit16 : kUnit32;
  const std::vector<double> values = to_doubles(got);
  double worst = values.size() == expected.size() ? 0 : HUGE_VAL;
  for (size_t i = 0; i < std::min(values.size(), expected.size()); ++i) {
    const double difference = std::abs(values[i] - expected[i]);
    const double most = bound[i] + unit * (std::abs(expected[i]) + bound[i]) + 0x1p-126;
    worst = std::max(worst, std::isnan(difference) ? HUGE_VAL : difference / most);
  }
  return worst;
}

// x s(z) with s = 1 / (1 + e^-z), z off by `z_error`: the exponential has a relative error of 2e-7
// (kernels/cpu/simd.h) and a rounded argument, s an error of s (1 - s) times that of the
// exponential.
inline double sigmoid_product_error(double x, double z, double z_error) {
  const double s = 1 / (1 + std::exp(-z));
  const double exponential = 2e-7 + 2 * kUnit32 * std::abs(z) + z_error;
  // Beyond 2^127 the exponential stays there.
  return std::abs(x) * (s * (1 - s) * exponential + 4 * kUnit32 * s + 0x1p-126);
}

inline double silu_error(double x) {
  return sigmoid_product_error(x, x, 0);
}

// Its argument is a polynomial whose terms have one sign: five roundings.
inline double gelu_error(double x) {
  const double z = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  return sigmoid_product_error(x, z, 5 * kUnit32 * std::abs(z));
}

}  // namespace longtake::testing
