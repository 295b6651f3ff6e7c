// Point-wise operators and conversions. Sizes go around vectors and tasks (16384 elements).
#include <doctest/doctest.h>

#include <bit>
#include <limits>

#include "kernels/base/error.h"
#include "kernels/elementwise.h"
#include "kernels/reference/elementwise.h"
#include "tests/kernels/rows.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {
namespace {

using Doubles = std::vector<double>;
constexpr int64_t kSizes[] = {0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 16384, 16385, 40001};

// From sign, exponent and fraction, independently of the code under test.
double f16_value(uint32_t bits) {
  const double sign = bits & 0x8000u ? -1 : 1;
  const int exponent = static_cast<int>((bits >> 10) & 31u);
  const double fraction = bits & 0x3ffu;
  if (exponent == 31) return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

bool same_value(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

OwnedTensor all_f16() {
  OwnedTensor x(DType::f16, {65536});
  auto* bits = static_cast<uint16_t*>(x.view().data);
  for (int i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i);
  return x;
}

OwnedTensor converted(const OwnedTensor& x, DType to) {
  OwnedTensor y(to, x.shape());
  convert(x, y, test_stream());
  return y;
}

void set(OwnedTensor& x, int64_t i, double value) {
  switch (x.dtype()) {
    case DType::f32:
      x.as<float>()[i] = static_cast<float>(value);
      break;
    case DType::bf16:
      x.as<bf16>()[i] = to_bf16(static_cast<float>(value));
      break;
    case DType::f16:  // 0, infinity, NaN
      static_cast<uint16_t*>(x.view().data)[i] = std::isnan(value)   ? 0x7e01
                                                 : std::isinf(value) ? 0xfc00
                                                                     : 0x3555;
      break;
    default:
      x.as<double>()[i] = value;
  }
}

}  // namespace

TEST_CASE("convert: every f16 becomes the same f32, and rounded once the right bf16") {
  const OwnedTensor x = all_f16();

  const OwnedTensor wide = converted(x, DType::f32), narrow = converted(x, DType::bf16);

  for (uint32_t i = 0; i < 65536; ++i) {
    const double value = f16_value(i);
    REQUIRE(same_value(wide.as<float>()[i], value));
    REQUIRE(same_value(to_float(narrow.as<bf16>()[i]),
                       std::isnan(value) ? value : reference::rounded(value, DType::bf16)));
  }
}

TEST_CASE("convert: every bf16 becomes the same f32 and the same bf16") {
  OwnedTensor x(DType::bf16, {65536});
  for (uint32_t i = 0; i < 65536; ++i) x.as<bf16>()[i] = {static_cast<uint16_t>(i)};

  const OwnedTensor wide = converted(x, DType::f32), copy = converted(x, DType::bf16);

  CHECK(same_bits(x, copy));
  for (uint32_t i = 0; i < 65536; ++i)
    REQUIRE(same_value(wide.as<float>()[i], std::bit_cast<float>(i << 16)));
}

TEST_CASE("convert: f32 rounds to the nearest bf16, ties to even; NaN stays NaN") {
  // All upper halves with lower halves around zero, the tie and the end.
  const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  OwnedTensor x(DType::f32, {6 * 65536});
  for (uint32_t i = 0; i < 6 * 65536; ++i)
    x.as<float>()[i] = std::bit_cast<float>((i / 6 << 16) | low[i % 6]);

  const OwnedTensor y = converted(x, DType::bf16), copy = converted(x, DType::f32);

  CHECK(same_bits(x, copy));
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double value = x.as<float>()[i], got = to_float(y.as<bf16>()[i]);
    CAPTURE(value);
    if (std::isnan(value))
      REQUIRE(std::isnan(got));
    else if (std::abs(value) < 0x1p-126)
      // Hardware may take numbers below the normal ones for zero.
      REQUIRE((got == 0 || got == reference::rounded(value, DType::bf16)));
    else
      REQUIRE(got == reference::rounded(value, DType::bf16));
  }
}

TEST_CASE("convert: any number of elements; nothing behind the end is touched") {
  for (const int64_t n : kSizes) {
    const OwnedTensor x = random_tensor({n + 1}, 3);
    OwnedTensor y = random_tensor({n + 1}, 4, 1, DType::bf16);
    const float last = to_float(y.as<bf16>()[n]);

    convert(x.view().rows(0, n), y.view().rows(0, n), test_stream());

    for (int64_t i = 0; i < n; ++i)
      REQUIRE(to_float(y.as<bf16>()[i]) == to_float(to_bf16(x.as<float>()[i])));
    CHECK(to_float(y.as<bf16>()[n]) == last);
  }
}

TEST_CASE("convert: other types are refused by name") {
  OwnedTensor x(DType::f32, {4}), half(DType::f16, {4}), doubles(DType::f64, {4});
  OwnedTensor short_one(DType::f32, {3});

  CHECK_THROWS_AS(convert(x, half, test_stream()), Error);
  CHECK_THROWS_AS(convert(doubles, x, test_stream()), Error);
  CHECK_THROWS_AS(convert(x, short_one, test_stream()), Error);
}

TEST_CASE("silu agrees with the oracle from one end of f32 to the other") {
  for (const int64_t n : kSizes) {
    OwnedTensor x = random_tensor({n}, 1, n > 100 ? 120.0f : 8.0f), y(DType::f32, {n});

    silu(x, y, test_stream());

    const Doubles xs = to_doubles(x), expected = reference::silu(xs);
    Doubles bound;
    for (const double e : xs) bound.push_back(silu_error(e));
    CHECK(worst_ratio(y, expected, bound) < 1.0);
  }
}

TEST_CASE("gated gelu agrees with the oracle, also in place") {
  for (const DType type : kComputeTypes) {
    for (const int64_t n : kSizes) {
      OwnedTensor a = random_tensor({n}, 1, n > 100 ? 40.0f : 6.0f, type);
      const OwnedTensor b = random_tensor({n}, 2, 3, type);
      const Doubles as = to_doubles(a), bs = to_doubles(b);

      gated_gelu(a, b, a, test_stream());

      const Doubles expected = reference::gated_gelu(as, bs);
      Doubles bound;
      for (size_t i = 0; i < as.size(); ++i)
        bound.push_back(std::abs(bs[i]) * gelu_error(as[i]) + kUnit32 * std::abs(expected[i]));
      CHECK(worst_ratio(a, expected, bound) < 1.0);
    }
  }
}

TEST_CASE("add is the exact f32 sum") {
  for (const int64_t n : kSizes) {
    const OwnedTensor x = random_tensor({n}, 1, 1000), before = random_tensor({n}, 2);
    OwnedTensor y = random_tensor({n}, 2);

    add(x, y, test_stream());

    for (int64_t i = 0; i < n; ++i)
      REQUIRE(y.as<float>()[i] == x.as<float>()[i] + before.as<float>()[i]);
  }
}

TEST_CASE("linear combinations of one to eight tensors, also into one of them") {
  for (const int64_t n : {1, 17, 16385}) {
    for (size_t count = 1; count <= 8; ++count) {
      std::vector<OwnedTensor> owned;
      std::vector<ConstTensor> x;
      std::vector<Doubles> xs;
      for (size_t k = 0; k < count; ++k) {
        owned.push_back(random_tensor({n}, k + 1));
        xs.push_back(to_doubles(owned.back()));
      }
      for (const OwnedTensor& t : owned) x.push_back(t.view());
      const std::vector<float> weight{0.5f, -1.25f, 3.0f, 0.1f, -7.0f, 0.25f, 1e-3f, 11.0f};
      const Doubles weights(weight.begin(), weight.begin() + static_cast<long>(count));

      linear_combination(x, std::span(weight).first(count), owned.back(), test_stream());

      const Doubles expected = reference::linear_combination(xs, weights);
      Doubles bound(expected.size(), 0.0);
      for (size_t k = 0; k < count; ++k)
        for (size_t i = 0; i < bound.size(); ++i)
          bound[i] += 8 * kUnit32 * std::abs(weights[k] * xs[k][i]);
      CHECK(worst_ratio(owned.back(), expected, bound) < 1.0);
    }
  }
}

TEST_CASE("all_finite sees one NaN or infinity at any place") {
  const double bad[] = {std::nan(""), HUGE_VAL, -HUGE_VAL};
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    CAPTURE(name(type));
    for (const int64_t n : {1, 5, 33, 16385, 40001}) {
      OwnedTensor x(type, {n});
      for (int64_t i = 0; i < n; ++i) set(x, i, i % 2 ? -1e30 : 1e-30);
      CHECK(all_finite(x, test_stream()));
      for (int64_t i = 0; i < n; i += n < 100 || i > n - 4 ? 1 : 4095) {
        set(x, i, bad[i % 3]);
        CHECK_FALSE(all_finite(x, test_stream()));
        set(x, i, 1.0);
      }
    }
  }
}

TEST_CASE("all_finite: integers and nothing at all are finite") {
  OwnedTensor whole(DType::i32, {3}), none(DType::f32, {0});
  for (int64_t i = 0; i < 3; ++i) whole.as<int32_t>()[i] = -1;

  CHECK(all_finite(whole, test_stream()));
  CHECK(all_finite(none, test_stream()));
}

}  // namespace longtake::testing
