// Normalisations against their oracle.
//
// A row of n elements is summed in at least 16 chains: c = n / 16 + 32 roundings at most on the way
// of an element. With u = 2^-24 the mean is off by m = c u mean|x|, the variance by c u of itself
// and m^2, so 1 / sqrt by (c / 2 + 3) u of itself and what m^2 does to it.
#include <doctest/doctest.h>

#include <limits>

#include "kernels/base/error.h"
#include "kernels/norm.h"
#include "kernels/reference/norm.h"
#include "tests/kernels/rows.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {
namespace {

using Doubles = std::vector<double>;
constexpr int64_t kDims[] = {1, 3, 4, 8, 12, 16, 17, 24, 65, 100, 192, 1536};
constexpr int64_t kRows = 37;
constexpr double kEps = 1e-6;

double chain(int64_t dim) {
  return static_cast<double>(dim) / 16 + 32;
}

// Error of (x - mean) / sqrt(var + eps) for each element.
Doubles layer_norm_error(const Doubles& x, int64_t dim) {
  Doubles out(x.size());
  const auto n = static_cast<size_t>(dim);
  const double c = chain(dim) * kUnit32;
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

// A matrix whose rows have very different sizes, offsets and spreads.
Strided awkward_rows(int64_t dim, uint64_t seed) {
  Strided x(kRows, dim, seed);
  const Tensor v = x.view();
  const float offset[] = {0, 0, 100, -3, 0}, scale[] = {1, 1e-3f, 1, 0, 1000};
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t i = 0; i < dim; ++i) {
      float& e = v.as<float>()[row * v.row_stride + i];
      e = e * scale[row % 5] + offset[row % 5];
    }
  return x;
}

void check_modulate(int64_t dim, DType y_type, int64_t modulations) {
  CAPTURE(dim);
  CAPTURE(name(y_type));
  CAPTURE(modulations);
  const Strided x = awkward_rows(dim, 1), shift(modulations, dim, 2), scale(modulations, dim, 3);
  Strided y(kRows, dim, 4, y_type);
  const Strided before(kRows, dim, 4, y_type);
  std::vector<int32_t> row;
  for (int64_t i = 0; modulations > 1 && i < kRows; ++i)
    row.push_back(static_cast<int32_t>(i * 3 % modulations));

  layer_norm_modulate(x.view(), shift.view(), scale.view(), row.empty() ? nullptr : row.data(),
                      static_cast<float>(kEps), y.view(), test_stream());

  const Doubles xs = x.doubles(), sh = shift.doubles(), sc = scale.doubles();
  const Doubles expected = reference::layer_norm_modulate(xs, sh, sc, row, kEps, kRows, dim);
  Doubles bound = layer_norm_error(xs, dim);
  for (size_t i = 0; i < bound.size(); ++i) {
    const auto n = static_cast<size_t>(dim);
    const size_t m = row.empty() ? 0 : static_cast<size_t>(row[i / n]);
    const double factor = std::abs(1 + sc[m * n + i % n]), at = std::abs(sh[m * n + i % n]);
    bound[i] = bound[i] * factor + 3 * kUnit32 * (std::abs(expected[i]) + 2 * at);
  }
  CHECK(worst_ratio(y.view(), expected, bound) < 1.0);
  CHECK(y.kept_outside(before));
}

Doubles rms_error(const Doubles& y, int64_t dim) {
  Doubles bound;
  for (const double e : y) bound.push_back(std::abs(e) * (chain(dim) / 2 + 6) * kUnit32);
  return bound;
}

void check_rms(int64_t dim, DType x_type, DType y_type) {
  CAPTURE(dim);
  CAPTURE(name(x_type));
  CAPTURE(name(y_type));
  const Strided x(kRows, dim, 1, x_type, 3);
  const OwnedTensor weight = random_tensor({dim}, 2, 2);
  Strided y(kRows, dim, 4, y_type);
  const Strided before(kRows, dim, 4, y_type);

  rms_norm(x.view(), weight, static_cast<float>(kEps), y.view(), test_stream());

  const Doubles expected = reference::rms_norm(x.doubles(), to_doubles(weight), kEps, kRows, dim);
  CHECK(worst_ratio(y.view(), expected, rms_error(expected, dim)) < 1.0);
  CHECK(y.kept_outside(before));
}

struct Angles {
  Strided cosine, sine;
  explicit Angles(int64_t half) : cosine(kRows, half, 5), sine(kRows, half, 6) {}
};

void check_rope(int64_t heads, int64_t head_dim, DType type, bool in_place) {
  CAPTURE(heads);
  CAPTURE(head_dim);
  CAPTURE(name(type));
  const int64_t dim = heads * head_dim;
  Strided x(kRows, dim, 1, type, 3), y(kRows, dim, 4, type);
  const Doubles xs = x.doubles();
  const OwnedTensor weight = random_tensor({dim}, 2, 2);
  const Angles angles(head_dim / 2);
  Strided& to = in_place ? x : y;

  rms_norm_rope(x.view(), weight, static_cast<float>(kEps), angles.cosine.view(),
                angles.sine.view(), heads, to.view(), test_stream());

  const Doubles cosine = angles.cosine.doubles(), sine = angles.sine.doubles();
  const Doubles normed = reference::rms_norm(xs, to_doubles(weight), kEps, kRows, dim);
  const Doubles expected = reference::rope(normed, cosine, sine, kRows, heads, head_dim);
  Doubles bound = rms_error(normed, dim);
  for (size_t i = 0; i + 1 < bound.size(); i += 2) {
    const double pair =
        bound[i] + bound[i + 1] + 2 * kUnit32 * (std::abs(normed[i]) + std::abs(normed[i + 1]));
    bound[i] = bound[i + 1] = pair;  // |cos|, |sin| <= 1
  }
  CHECK(worst_ratio(to.view(), expected, bound) < 1.0);
}

void check_channel(int64_t dim, DType x_type, DType y_type, bool activate) {
  CAPTURE(dim);
  CAPTURE(name(x_type));
  CAPTURE(name(y_type));
  CAPTURE(activate);
  const OwnedTensor x = random_tensor({kRows, dim}, 1, 5, x_type);
  const OwnedTensor gamma = random_tensor({dim}, 2, 2);
  OwnedTensor y(y_type, {kRows, dim});

  channel_norm_silu(x, gamma, activate, y, test_stream());

  const Doubles xs = to_doubles(x), g = to_doubles(gamma);
  const Doubles normed = reference::channel_norm_silu(xs, g, false, kRows, dim);
  const Doubles expected = reference::channel_norm_silu(xs, g, activate, kRows, dim);
  Doubles bound = rms_error(normed, dim);
  for (size_t i = 0; activate && i < bound.size(); ++i)
    bound[i] = 1.1 * bound[i] + silu_error(normed[i]);  // silu has slopes below 1.1
  CHECK(worst_ratio(y, expected, bound) < 1.0);
}

}  // namespace

TEST_CASE("adaptive layer norm agrees with the oracle") {
  for (const int64_t dim : kDims)
    for (const DType type : kComputeTypes)
      for (const int64_t modulations : {1, 4}) check_modulate(dim, type, modulations);
}

TEST_CASE("affine layer norm agrees with the oracle") {
  for (const int64_t dim : kDims) {
    for (const DType type : kComputeTypes) {
      CAPTURE(dim);
      CAPTURE(name(type));
      const Strided x = awkward_rows(dim, 1);
      const OwnedTensor weight = random_tensor({dim}, 2, 2), bias = random_tensor({dim}, 3, 2);
      Strided y(kRows, dim, 4, type);

      layer_norm_affine(x.view(), weight, bias, static_cast<float>(kEps), y.view(), test_stream());

      const Doubles xs = x.doubles(), w = to_doubles(weight), b = to_doubles(bias);
      const Doubles expected = reference::layer_norm_affine(xs, w, b, kEps, kRows, dim);
      Doubles bound = layer_norm_error(xs, dim);
      for (size_t i = 0; i < bound.size(); ++i) {
        const size_t j = i % static_cast<size_t>(dim);
        bound[i] =
            bound[i] * std::abs(w[j]) + 3 * kUnit32 * (std::abs(expected[i]) + 2 * std::abs(b[j]));
      }
      CHECK(worst_ratio(y.view(), expected, bound) < 1.0);
    }
  }
}

TEST_CASE("rms norm agrees with the oracle") {
  for (const int64_t dim : kDims)
    for (const DType x_type : kComputeTypes)
      for (const DType y_type : kComputeTypes) check_rms(dim, x_type, y_type);
}

TEST_CASE("rms norm: epsilon counts where a row is small, and zeros stay zeros") {
  OwnedTensor x(DType::f32, {2, 4}), weight(DType::f32, {4}), y(DType::f32, {2, 4});
  for (int64_t i = 0; i < 4; ++i) {
    x.as<float>()[i] = 1e-3f;  // mean square 1e-6 = eps: 1 / sqrt(2)
    x.as<float>()[4 + i] = 0;
    weight.as<float>()[i] = 1;
  }

  rms_norm(x, weight, 1e-6f, y, test_stream());

  CHECK(y.as<float>()[0] == doctest::Approx(std::sqrt(0.5)).epsilon(1e-6));
  CHECK(y.as<float>()[4] == 0.0f);
}

TEST_CASE("rms norm with rotation agrees with the oracle, also in place") {
  const int64_t shapes[][2] = {
      {1, 2},  {5, 2},  {3, 12},   {2, 22},
      {4, 24}, {2, 96}, {12, 128}, {1, 1536}};  // heads above 1024 are rotated in parts
  for (const auto& [heads, head_dim] : shapes)
    for (const DType type : kComputeTypes)
      for (const bool in_place : {false, true}) check_rope(heads, head_dim, type, in_place);
}

TEST_CASE("channel norm agrees with the oracle") {
  for (const int64_t dim : kDims)
    for (const DType x_type : kComputeTypes)
      for (const DType y_type : kComputeTypes)
        for (const bool activate : {false, true}) check_channel(dim, x_type, y_type, activate);
}

TEST_CASE("channel norm: rows that share a vector, in place too, do not touch each other") {
  for (const int64_t dim : {2, 4, 8, 16}) {
    const OwnedTensor gamma = random_tensor({dim}, 2, 2);
    OwnedTensor x = random_tensor({kRows, dim}, 1, 5);
    OwnedTensor alone(DType::f32, {kRows, dim});
    for (int64_t row = 0; row < kRows; ++row)
      channel_norm_silu(x.view().rows(row, row + 1), gamma, true, alone.view().rows(row, row + 1),
                        test_stream());

    channel_norm_silu(x, gamma, true, x, test_stream());

    CHECK(std::equal(x.as<float>(), x.as<float>() + x.numel(), alone.as<float>()));
  }
}

TEST_CASE("channel norm: rows of zeros or of almost nothing") {
  OwnedTensor x(DType::f32, {3, 2}), gamma(DType::f32, {2}), y(DType::f32, {3, 2});
  const float rows[] = {0, 0, 3e-13f, 4e-13f, 3e-10f, 4e-10f};
  std::copy(rows, rows + 6, x.as<float>());
  gamma.as<float>()[0] = gamma.as<float>()[1] = 1;

  channel_norm_silu(x, gamma, false, y, test_stream());

  // Lengths 0 and 5e-13 count as 1e-12, 5e-10 as itself.
  const double root = std::sqrt(2.0);
  const double expected[] = {0, 0, 0.3 * root, 0.4 * root, 0.6 * root, 0.8 * root};
  for (int i = 0; i < 6; ++i) CHECK(y.as<float>()[i] == doctest::Approx(expected[i]).epsilon(1e-6));
}

TEST_CASE("norms: the number of threads does not change a bit") {
  const OwnedTensor x = random_tensor({100, 1536}, 1), weight = random_tensor({1536}, 2);
  OwnedTensor y[3];
  for (int threads = 1; threads <= 3; ++threads) {
    y[threads - 1] = OwnedTensor(DType::bf16, {100, 1536});
    rms_norm(x, weight, 1e-6f, y[threads - 1], test_stream(threads));
  }
  CHECK(same_bits(y[0], y[1]));
  CHECK(same_bits(y[0], y[2]));
}

TEST_CASE("norms: NaN in a row is seen in that row alone") {
  OwnedTensor x = random_tensor({3, 40}, 1), y(DType::bf16, {3, 40});
  const OwnedTensor zero = random_tensor({1, 40}, 2, 0);
  x.as<float>()[40] = std::numeric_limits<float>::quiet_NaN();

  layer_norm_modulate(x, zero, zero, nullptr, 1e-6f, y, test_stream());

  CHECK(std::isfinite(element(y, 0, 39)));
  CHECK(std::isnan(element(y, 1, 39)));
  CHECK(std::isfinite(element(y, 2, 39)));
}

TEST_CASE("norms: wrong arguments are refused") {
  OwnedTensor x(DType::f32, {3, 12}), y(DType::f32, {3, 12}), other(DType::f32, {3, 11});
  OwnedTensor vector(DType::f32, {12}), many(DType::f32, {2, 12}), half(DType::bf16, {3, 12});
  const StreamRef s = test_stream();

  CHECK_THROWS_AS(rms_norm(x, vector, 1e-6f, other, s), Error);
  CHECK_THROWS_AS(rms_norm(x, other, 1e-6f, y, s), Error);
  CHECK_THROWS_AS(layer_norm_modulate(half, many, many, nullptr, 1e-6f, y, s), Error);
  CHECK_THROWS_AS(layer_norm_modulate(x, many, many, nullptr, 1e-6f, y, s), Error);
  CHECK_THROWS_AS(layer_norm_affine(x, vector, other, 1e-6f, y, s), Error);
  CHECK_THROWS_AS(rms_norm_rope(x, vector, 1e-6f, y, y, 4, y, s), Error);
  CHECK_THROWS_AS(rms_norm_rope(x, vector, 1e-6f, y, y, 0, y, s), Error);
  CHECK_THROWS_AS(channel_norm_silu(x, other, true, y, s), Error);
}

}  // namespace longtake::testing
