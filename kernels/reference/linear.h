// Linear layers in double precision: the oracle of kernels/linear.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longtake::reference {

enum class Activation { none, gelu_tanh, silu };

double activate(Activation activation, double x);

// activation(x W^T + b): x [rows, in], weight [out, in], bias [out] or empty -> [rows, out].
std::vector<double> linear(std::span<const double> x, std::span<const double> weight,
                           std::span<const double> bias, Activation activation, int64_t rows,
                           int64_t in, int64_t out);

// residual + gate * y: y, residual [rows, out]; gate [n, out] or empty (1); row i uses
// gate[gate_row[i]], or gate[0] when gate_row is empty.
std::vector<double> gated_residual(std::span<const double> y, std::span<const double> residual,
                                   std::span<const double> gate, std::span<const int32_t> gate_row,
                                   int64_t rows, int64_t out);

}  // namespace longtake::reference
