// Point-wise operators in double precision: the oracle of kernels/elementwise.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/dtype.h"

namespace longtake::reference {

double silu(double x);
// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
double gelu_tanh(double x);

std::vector<double> silu(std::span<const double> x);
std::vector<double> gated_gelu(std::span<const double> a, std::span<const double> b);
std::vector<double> add(std::span<const double> x, std::span<const double> y);
// sum of weight[i] x[i]
std::vector<double> linear_combination(const std::vector<std::vector<double>>& x,
                                       std::span<const double> weight);

// Rounded to f32 or bf16, ties to even; the other types are not targets of `convert`.
double rounded(double x, DType to);
std::vector<double> convert(std::span<const double> x, DType to);

bool all_finite(std::span<const double> x);

}  // namespace longtake::reference
