// Checks of the CUDA normalisations against the oracle, on the host or on a GPU (`Kernels`).
#pragma once

#include "kernels/reference/norm.h"
#include "tests/cuda_host/placed.h"

namespace longtake::testing {

constexpr double kEps = 1e-6;

// Rows of very different sizes, offsets and spreads.
inline void make_awkward(Tensor x) {
  const float offset[] = {0, 0, 100, -3, 0}, scale[] = {1, 1e-3f, 1, 0, 1000};
  for (int64_t row = 0; row < x.dim(0); ++row)
    for (int64_t i = 0; i < x.dim(1); ++i) {
      float& e = x.as<float>()[row * x.row_stride + i];
      e = e * scale[row % 5] + offset[row % 5];
    }
}

// Of (x - mean) / sqrt(var + eps); tests/kernels/norm_test.cc derives it.
inline Doubles layer_norm_error(const Doubles& x, int64_t dim) {
  Doubles out(x.size());
  const auto n = static_cast<size_t>(dim);
  const double c = sum_roundings<4>(dim) * kUnit32;
  for (size_t row = 0; row < x.size(); row += n) {
    double mean = 0, magnitude = 0, variance = 0;
    for (size_t i = row; i < row + n; ++i) mean += x[i] / static_cast<double>(n);
    for (size_t i = row; i < row + n; ++i) {
      magnitude += std::abs(x[i]) / static_cast<double>(n);
      variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
    }
    const double m = c * magnitude, inverse = 1 / std::sqrt(variance + kEps);
    const double relative = c / 2 + 5 * kUnit32 + m * m * inverse * inverse / 2;
    for (size_t i = row; i < row + n; ++i)
      out[i] = inverse * (m + std::abs(x[i] - mean) * relative);
  }
  return out;
}

struct Index {
  std::vector<int32_t> row;
  OwnedTensor host, there;

  // Row i uses i * 3 % n; nothing for n = 1.
  template <class Kernels>
  Index(Kernels& k, int64_t rows, int64_t n) : host(DType::i32, {rows}) {
    for (int64_t i = 0; i < rows; ++i) host.as<int32_t>()[i] = static_cast<int32_t>(i * 3 % n);
    if (n == 1) return;
    row.assign(host.as<int32_t>(), host.as<int32_t>() + rows);
    there = k.up(host);
  }
  const int32_t* data() const { return row.empty() ? nullptr : there.as<int32_t>(); }
};

// The oracle's result and how far one may be from it; x are the elements as the norm sees them.
struct Normed {
  Doubles expected, bound;
  Normed(const Doubles& x, const Doubles& shift, const Doubles& scale, const Index& index,
         double one, int64_t rows, int64_t dim) {
    Doubles factor = scale;  // the oracle adds one
    for (double& s : factor) s += one - 1;
    expected = reference::layer_norm_modulate(x, shift, factor, index.row, kEps, rows, dim);
    bound = layer_norm_error(x, dim);
    const auto n = static_cast<size_t>(dim);
    for (size_t i = 0; i < bound.size(); ++i) {
      const size_t m = index.row.empty() ? 0 : static_cast<size_t>(index.row[i / n]);
      const double at = std::abs(shift[m * n + i % n]);
      bound[i] = bound[i] * std::abs(one + scale[m * n + i % n]) +
                 3 * kUnit32 * (std::abs(expected[i]) + 2 * at);
    }
  }
};

template <class Kernels>
void check_layer_norm(Kernels& k, int64_t rows, int64_t dim, DType y_type, Layout layout,
                      int64_t modulations, bool one_plus_scale) {
  CAPTURE(rows);
  CAPTURE(dim);
  CAPTURE(name(y_type));
  CAPTURE(static_cast<int>(layout));
  CAPTURE(modulations);
  const Placed x(k, rows, dim, layout, DType::f32, 1, 1, make_awkward);
  const Placed shift(k, modulations, dim, layout, DType::f32, 2);
  const Placed scale(k, modulations, dim, layout, DType::f32, 3);
  Placed y(k, rows, dim, layout, y_type, 4, 1, fill_nan);
  const Index index(k, rows, modulations);

  k.layer_norm(x.view(), shift.view(), scale.view(), index.data(), one_plus_scale,
               static_cast<float>(kEps), y.view());

  const Normed n(x.doubles(), shift.doubles(), scale.doubles(), index, one_plus_scale ? 1 : 0, rows,
                 dim);
  CHECK(y.ratio(n.expected, n.bound) < 1.0);
}

// Also on one and the same data: the sum and its norm are those of the two calls, bit by bit.
template <class Kernels>
void check_gated_layer_norm(Kernels& k, int64_t rows, int64_t dim, DType update_type, DType y_type,
                            Layout layout, int64_t gates) {
  CAPTURE(rows);
  CAPTURE(dim);
  CAPTURE(name(update_type));
  CAPTURE(name(y_type));
  CAPTURE(static_cast<int>(layout));
  CAPTURE(gates);
  const Placed update(k, rows, dim, layout, update_type, 1);
  const Placed gate(k, std::max<int64_t>(gates, 1), dim, layout, DType::f32, 5);
  const Placed shift(k, 1, dim, layout, DType::f32, 2), scale(k, 1, dim, layout, DType::f32, 3);
  Placed residual(k, rows, dim, layout, DType::f32, 6, 1, make_awkward);
  Placed residual2(k, rows, dim, layout, DType::f32, 6, 1, make_awkward);
  Placed y(k, rows, dim, layout, y_type, 4, 1, fill_nan);
  Placed y2(k, rows, dim, layout, y_type, 4, 1, fill_nan);
  const Index index(k, rows, std::max<int64_t>(gates, 1)), none(k, rows, 1);
  const ConstTensor g = gates > 0 ? gate.view() : ConstTensor();
  const auto eps = static_cast<float>(kEps);

  k.add_gated_layer_norm(update.view(), g, index.data(), residual.view(), shift.view(),
                         scale.view(), nullptr, true, eps, y.view());
  k.add_gated(update.view(), g, index.data(), residual2.view());
  k.layer_norm(residual2.view(), shift.view(), scale.view(), nullptr, true, eps, y2.view());

  CHECK(same_bits(residual.now(), residual2.now()));
  CHECK(same_bits(y.now(), y2.now()));
  const Doubles u = update.doubles(), gs = gate.doubles();
  Doubles sum = residual.doubles(), bound(sum.size());
  const auto n = static_cast<size_t>(dim);
  for (size_t i = 0; i < sum.size(); ++i) {
    const size_t m = index.row.empty() ? 0 : static_cast<size_t>(index.row[i / n]);
    sum[i] += (gates > 0 ? gs[m * n + i % n] : 1.0) * u[i];  // rounded once: by worst_ratio
  }
  CHECK(residual.ratio(sum, bound) < 1.0);
  const int64_t before = columns_before(layout);
  const OwnedTensor now = residual.now();
  const Normed normed(to_doubles(now.view().columns(before, before + dim)), shift.doubles(),
                      scale.doubles(), none, 1, rows, dim);
  CHECK(y.ratio(normed.expected, normed.bound) < 1.0);
}

inline double rms_roundings(int64_t dim, DType x_type, DType y_type) {
  const bool wide = x_type == DType::f32 || y_type == DType::f32;
  return (wide ? sum_roundings<4>(dim) : sum_roundings<8>(dim)) / 2 + 6;
}

inline Doubles times(const Doubles& x, double factor) {
  Doubles out;
  for (const double e : x) out.push_back(std::abs(e) * factor);
  return out;
}

template <class Kernels>
void check_rms_norm(Kernels& k, int64_t rows, int64_t dim, DType x_type, DType y_type,
                    Layout layout) {
  CAPTURE(rows);
  CAPTURE(dim);
  CAPTURE(name(x_type));
  CAPTURE(name(y_type));
  CAPTURE(static_cast<int>(layout));
  const Placed x(k, rows, dim, layout, x_type, 1, 3);
  const Placed weight(k, 1, dim, layout, DType::f32, 2, 2);
  Placed y(k, rows, dim, layout, y_type, 4, 1, fill_nan);

  k.rms_norm(x.view(), weight.view(), static_cast<float>(kEps), {}, {}, 1, y.view());

  const Doubles expected = reference::rms_norm(x.doubles(), weight.doubles(), kEps, rows, dim);
  CHECK(y.ratio(expected, times(expected, rms_roundings(dim, x_type, y_type) * kUnit32)) < 1.0);
}

template <class Kernels>
void check_rope(Kernels& k, int64_t rows, int64_t heads, int64_t head_dim, DType x_type,
                DType y_type, Layout layout, bool in_place) {
  const int64_t dim = heads * head_dim;
  CAPTURE(rows);
  CAPTURE(heads);
  CAPTURE(head_dim);
  CAPTURE(name(x_type));
  CAPTURE(name(y_type));
  CAPTURE(static_cast<int>(layout));
  CAPTURE(in_place);
  Placed x(k, rows, dim, layout, x_type, 1, 3);
  const Placed weight(k, 1, dim, layout, DType::f32, 2, 2);
  const Placed cosine(k, rows, head_dim / 2, layout, DType::f32, 5);
  const Placed sine(k, rows, head_dim / 2, layout, DType::f32, 6);
  Placed y(k, rows, dim, layout, y_type, 4, 1, fill_nan);
  Placed<Kernels>& to = in_place ? x : y;

  k.rms_norm(x.view(), weight.view(), static_cast<float>(kEps), cosine.view(), sine.view(), heads,
             to.view());

  const Doubles normed = reference::rms_norm(x.doubles(), weight.doubles(), kEps, rows, dim);
  const Doubles expected =
      reference::rope(normed, cosine.doubles(), sine.doubles(), rows, heads, head_dim);
  const double roundings = rms_roundings(dim, x_type, in_place ? x_type : y_type) + 2;
  Doubles bound = times(normed, roundings * kUnit32);
  for (size_t i = 0; i + 1 < bound.size(); i += 2)
    bound[i] = bound[i + 1] = bound[i] + bound[i + 1];  // |cos|, |sin| <= 1
  CHECK(to.ratio(expected, bound) < 1.0);
}

template <class Kernels>
void check_channel_norm(Kernels& k, int64_t rows, int64_t dim, DType x_type, DType y_type,
                        Layout layout, bool activate) {
  CAPTURE(rows);
  CAPTURE(dim);
  CAPTURE(name(x_type));
  CAPTURE(name(y_type));
  CAPTURE(static_cast<int>(layout));
  CAPTURE(activate);
  const Placed x(k, rows, dim, layout, x_type, 1, 5);
  const Placed gamma(k, 1, dim, layout, DType::f32, 2, 2);
  Placed y(k, rows, dim, layout, y_type, 4, 1, fill_nan);

  k.channel_norm(x.view(), gamma.view(), activate, y.view());

  const Doubles xs = x.doubles(), g = gamma.doubles();
  const Doubles normed = reference::channel_norm_silu(xs, g, false, rows, dim);
  const Doubles expected = reference::channel_norm_silu(xs, g, activate, rows, dim);
  Doubles bound = times(normed, rms_roundings(dim, x_type, y_type) * kUnit32);
  for (size_t i = 0; activate && i < bound.size(); ++i)
    bound[i] = 1.1 * bound[i] + cuda_silu_error(normed[i]);  // silu has slopes below 1.1
  CHECK(y.ratio(expected, bound) < 1.0);
}

}  // namespace longtake::testing
