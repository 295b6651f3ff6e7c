// The oracles on data small enough to check by hand, and the measured peak.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/base/isa.h"
#include "kernels/cpu/peak.h"
#include "kernels/reference/conv.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/linear.h"
#include "kernels/reference/norm.h"

namespace longtake::testing {
namespace {

using Vector = std::vector<double>;

void check_near(const Vector& got, const Vector& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - expected[i]) < 1e-12);
}

}  // namespace

TEST_CASE("oracle: linear with bias, gate per row and residual") {
  const Vector x{1, 2, 3, 4}, weight{1, 0, 0, 1, 1, 1}, bias{0, 0, 10};

  const Vector y = reference::linear(x, weight, bias, reference::Activation::none, 2, 2, 3);
  check_near(y, {1, 2, 13, 3, 4, 17});

  const Vector gate{1, 1, 1, 2, 0, -1}, residual(6, 100);
  const std::vector<int32_t> gate_row{1, 0};
  check_near(reference::gated_residual(y, residual, gate, gate_row, 2, 3),
             {102, 100, 87, 103, 104, 117});
}

TEST_CASE("oracle: activations and rounding") {
  CHECK(reference::silu(1.0) == doctest::Approx(0.7310585786300049));
  CHECK(reference::gelu_tanh(1.0) == doctest::Approx(0.8411919906082768));
  CHECK(reference::rounded(1.0 + 0x1p-8, DType::bf16) == 1.0);  // a tie goes to even
  CHECK(reference::rounded(1.0 + 3 * 0x1p-8, DType::bf16) == 1.0 + 0x1p-6);
  CHECK(reference::rounded(0.1, DType::f32) == double{0.1f});
  CHECK(reference::rounded(0x1.8p-150, DType::f32) == 0x1p-149);  // below the normal numbers
  CHECK(std::isinf(reference::rounded(-1e39, DType::f32)));
}

TEST_CASE("oracle: normalisations") {
  const Vector x{1, 3, -2, 2}, shift{0, 0, 10, 20}, scale{0, 0, 1, 2};
  const std::vector<int32_t> row{0, 1};
  check_near(reference::layer_norm_modulate(x, shift, scale, row, 0.0, 2, 2), {-1, 1, 8, 23});
  check_near(reference::layer_norm_affine(x, Vector{2, 3}, Vector{1, 1}, 0.0, 2, 2),
             {-1, 4, -1, 4});

  const Vector root = reference::rms_norm(Vector{3, 4}, Vector{1, 2}, 0.0, 1, 2);
  check_near(root, {3 / std::sqrt(12.5), 8 / std::sqrt(12.5)});
  // A quarter turn of the second of two heads' pairs: (a, b) -> (-b, a).
  check_near(reference::rope(Vector{1, 2, 3, 4}, Vector{0}, Vector{1}, 1, 2, 2), {-2, 1, -4, 3});
  check_near(reference::channel_norm_silu(Vector{3, 4}, Vector{1, 1}, false, 1, 2),
             {0.6 * std::sqrt(2.0), 0.8 * std::sqrt(2.0)});
}

TEST_CASE("oracle: a convolution sees its frame and the one before, zeros around") {
  // Two frames of 1 x 3, one channel; kernel of 2 frames x 1 x 3.
  const Vector x{1, 2, 3, 10, 20, 30}, weight{1, 0, 0, 0, 1, 2};
  const reference::ConvShape shape{2, 1, 3, 1, 1, 2, 1, 3};

  const Vector y = reference::causal_conv3d(x, weight, Vector{0.5}, shape);

  // Frame 0: x[w] + 2 x[w + 1]. Frame 1: the same and the earlier frame's x[w - 1].
  check_near(y, {5.5, 8.5, 3.5, 50.5, 81.5, 32.5});
}

TEST_CASE("oracle: two-dimensional convolution, stride 1 and 2") {
  const Vector x{1, 2, 3, 4}, ones(9, 1.0);
  const reference::ConvShape shape{1, 2, 2, 1, 1, 1, 3, 3};

  check_near(reference::conv2d(x, ones, {}, shape), {10, 10, 10, 10});
  // One window at the upper left corner, zeros below and on the right.
  check_near(reference::conv2d(x, Vector{0, 0, 0, 0, 5, 0, 0, 0, 7}, {}, shape, 2), {20});
}

TEST_CASE("the peak of a core is measured for what the instruction set has") {
  const cpu::Peak peak = cpu::measure_peak(1);

  CHECK(peak.fma > 1e8);
  CHECK((peak.bf16 > 0) == (active_isa() == Isa::avx512_bf16));
}

}  // namespace longtake::testing
