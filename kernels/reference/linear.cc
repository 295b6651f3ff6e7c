#include "kernels/reference/linear.h"

#include "kernels/reference/elementwise.h"

namespace longtake::reference {

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::silu:
      return silu(x);
    case Activation::none:
      break;
  }
  return x;
}

std::vector<double> linear(std::span<const double> x, std::span<const double> weight,
                           std::span<const double> bias, Activation activation, int64_t rows,
                           int64_t in, int64_t out) {
  std::vector<double> y(static_cast<size_t>(rows * out));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < out; ++j) {
      double total = bias.empty() ? 0.0 : bias[static_cast<size_t>(j)];
      for (int64_t i = 0; i < in; ++i)
        total += x[static_cast<size_t>(row * in + i)] * weight[static_cast<size_t>(j * in + i)];
      y[static_cast<size_t>(row * out + j)] = activate(activation, total);
    }
  }
  return y;
}

std::vector<double> gated_residual(std::span<const double> y, std::span<const double> residual,
                                   std::span<const double> gate, std::span<const int32_t> gate_row,
                                   int64_t rows, int64_t out) {
  std::vector<double> sum(static_cast<size_t>(rows * out));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t g = gate_row.empty() ? 0 : gate_row[static_cast<size_t>(row)];
    for (int64_t j = 0; j < out; ++j) {
      const auto at = static_cast<size_t>(row * out + j);
      const double factor = gate.empty() ? 1.0 : gate[static_cast<size_t>(g * out + j)];
      sum[at] = residual[at] + factor * y[at];
    }
  }
  return sum;
}

}  // namespace longtake::reference
