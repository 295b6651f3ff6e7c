#include "kernels/reference/norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/reference/elementwise.h"

namespace longtake::reference {

namespace {

// (x - mean) / sqrt(var + eps) per row
std::vector<double> layer_norm(Doubles x, double eps, int64_t rows, int64_t dim) {
  const auto n = static_cast<size_t>(dim);
  std::vector<double> y(x.begin(), x.end());
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    const std::span<double> r(y.data() + row * n, n);
    double mean = 0, variance = 0;
    for (const double e : r) mean += e / static_cast<double>(dim);
    for (const double e : r) variance += (e - mean) * (e - mean) / static_cast<double>(dim);
    for (double& e : r) e = (e - mean) / std::sqrt(variance + eps);
  }
  return y;
}

}  // namespace

std::vector<double> layer_norm_modulate(Doubles x, Doubles shift, Doubles scale,
                                        std::span<const int32_t> modulation_row, double eps,
                                        int64_t rows, int64_t dim) {
  std::vector<double> y = layer_norm(x, eps, rows, dim);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t m = modulation_row.empty() ? 0 : modulation_row[static_cast<size_t>(row)];
    for (int64_t i = 0; i < dim; ++i) {
      double& e = y[static_cast<size_t>(row * dim + i)];
      const auto at = static_cast<size_t>(m * dim + i);
      e = e * (1.0 + scale[at]) + shift[at];
    }
  }
  return y;
}

std::vector<double> layer_norm_affine(Doubles x, Doubles weight, Doubles bias, double eps,
                                      int64_t rows, int64_t dim) {
  std::vector<double> y = layer_norm(x, eps, rows, dim);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t column = i % static_cast<size_t>(dim);
    y[i] = y[i] * weight[column] + bias[column];
  }
  return y;
}

std::vector<double> rms_norm(Doubles x, Doubles weight, double eps, int64_t rows, int64_t dim) {
  const auto n = static_cast<size_t>(dim);
  std::vector<double> y(x.size());
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    const Doubles r = x.subspan(row * n, n);
    double mean_square = 0;
    for (const double e : r) mean_square += e * e / static_cast<double>(dim);
    for (size_t i = 0; i < n; ++i) y[row * n + i] = r[i] / std::sqrt(mean_square + eps) * weight[i];
  }
  return y;
}

std::vector<double> rope(Doubles x, Doubles cosine, Doubles sine, int64_t rows, int64_t heads,
                         int64_t head_dim) {
  std::vector<double> y(x.size());
  const int64_t pairs = head_dim / 2;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < pairs; ++i) {
        const auto at = static_cast<size_t>((row * heads + head) * head_dim + 2 * i);
        const auto angle = static_cast<size_t>(row * pairs + i);
        y[at] = x[at] * cosine[angle] - x[at + 1] * sine[angle];
        y[at + 1] = x[at] * sine[angle] + x[at + 1] * cosine[angle];
      }
    }
  }
  return y;
}

std::vector<double> rms_norm_rope(Doubles x, Doubles weight, double eps, Doubles cosine,
                                  Doubles sine, int64_t rows, int64_t heads, int64_t head_dim) {
  return rope(rms_norm(x, weight, eps, rows, heads * head_dim), cosine, sine, rows, heads,
              head_dim);
}

std::vector<double> channel_norm_silu(Doubles x, Doubles gamma, bool activate, int64_t rows,
                                      int64_t dim) {
  const auto n = static_cast<size_t>(dim);
  std::vector<double> y(x.size());
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    const Doubles r = x.subspan(row * n, n);
    double square = 0;
    for (const double e : r) square += e * e;
    const double length = std::max(std::sqrt(square), 1e-12);
    for (size_t i = 0; i < n; ++i) {
      const double e = r[i] / length * std::sqrt(static_cast<double>(dim)) * gamma[i];
      y[row * n + i] = activate ? silu(e) : e;
    }
  }
  return y;
}

}  // namespace longtake::reference
