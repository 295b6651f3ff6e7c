// Row-wise normalisations in double precision: the oracle of kernels/norm.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longtake::reference {

using Doubles = std::span<const double>;

// x [rows, dim]; shift, scale [n, dim]; row i uses index modulation_row[i], or 0 when that is
// empty.
std::vector<double> layer_norm_modulate(Doubles x, Doubles shift, Doubles scale,
                                        std::span<const int32_t> modulation_row, double eps,
                                        int64_t rows, int64_t dim);

// weight, bias [dim]
std::vector<double> layer_norm_affine(Doubles x, Doubles weight, Doubles bias, double eps,
                                      int64_t rows, int64_t dim);

std::vector<double> rms_norm(Doubles x, Doubles weight, double eps, int64_t rows, int64_t dim);

// Rotates the pairs (2i, 2i + 1) of every head; x [rows, heads * head_dim], cosine and sine
// [rows, head_dim / 2].
std::vector<double> rope(Doubles x, Doubles cosine, Doubles sine, int64_t rows, int64_t heads,
                         int64_t head_dim);

std::vector<double> rms_norm_rope(Doubles x, Doubles weight, double eps, Doubles cosine,
                                  Doubles sine, int64_t rows, int64_t heads, int64_t head_dim);

// gamma [dim]
std::vector<double> channel_norm_silu(Doubles x, Doubles gamma, bool activate, int64_t rows,
                                      int64_t dim);

}  // namespace longtake::reference
