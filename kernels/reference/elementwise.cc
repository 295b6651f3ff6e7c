#include "kernels/reference/elementwise.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/error.h"

namespace longtake::reference {

double silu(double x) {
  return x / (1.0 + std::exp(-x));
}

double gelu_tanh(double x) {
  // 1 + tanh(y) as 2 / (1 + e^-2y): no digits are lost where tanh is near -1.
  const double y = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-2.0 * y));
}

std::vector<double> silu(std::span<const double> x) {
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = silu(x[i]);
  return y;
}

std::vector<double> gated_gelu(std::span<const double> a, std::span<const double> b) {
  std::vector<double> y(a.size());
  for (size_t i = 0; i < a.size(); ++i) y[i] = gelu_tanh(a[i]) * b[i];
  return y;
}

std::vector<double> add(std::span<const double> x, std::span<const double> y) {
  std::vector<double> sum(x.size());
  for (size_t i = 0; i < x.size(); ++i) sum[i] = x[i] + y[i];
  return sum;
}

std::vector<double> linear_combination(const std::vector<std::vector<double>>& x,
                                       std::span<const double> weight) {
  std::vector<double> y(x.at(0).size(), 0.0);
  for (size_t k = 0; k < x.size(); ++k)
    for (size_t i = 0; i < y.size(); ++i) y[i] += weight[k] * x[k][i];
  return y;
}

double rounded(double x, DType to) {
  const int bits = to == DType::f32 ? 24 : to == DType::bf16 ? 8 : 0;
  LT_CHECK(bits > 0, "expected f32 or bf16, found {}", name(to));
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent = 0;
  std::frexp(x, &exponent);
  // Below 2^-126 the spacing stays that of the smallest normal numbers.
  const int unit = std::max(exponent, -125) - bits;
  const double y = std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
  return std::abs(y) < std::ldexp(1.0, 128) ? y : std::copysign(HUGE_VAL, y);
}

std::vector<double> convert(std::span<const double> x, DType to) {
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = rounded(x[i], to);
  return y;
}

bool all_finite(std::span<const double> x) {
  return std::all_of(x.begin(), x.end(), [](double e) { return std::isfinite(e); });
}

}  // namespace longtake::reference
