// CUDA backend of kernels/elementwise.h, patch.h and solver_step.h. Contracts as there; arguments
// have been checked.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/tensor.h"
#include "kernels/cuda/stream.h"
#include "kernels/patch.h"
#include "kernels/solver_step.h"

namespace longtake::cuda {

void convert(ConstTensor x, Tensor y, Stream& stream);
void silu(ConstTensor x, Tensor y, Stream& stream);
void gated_gelu(ConstTensor a, ConstTensor b, Tensor y, Stream& stream);
void add(ConstTensor x, Tensor y, Stream& stream);
void linear_combination(std::span<const ConstTensor> x, std::span<const float> weight, Tensor y,
                        Stream& stream);
bool all_finite(ConstTensor x, Stream& stream);  // waits for the answer
void add_rows(ConstTensor rows, ConstTensor table, Tensor sum, Stream& stream);

// residual += gate * y: residual f32 [rows, dim], y f32 or bf16 [rows, dim], gate f32 [n, dim] or
// empty (1); row i uses gate[gate_row[i]] (device memory), or gate[0] when it is null.
void add_gated(ConstTensor y, ConstTensor gate, const int32_t* gate_row, Tensor residual,
               Stream& stream);
// y[i] = activation(y[i] + bias[column]), y f32 or bf16 [rows, dim]: what a GEMM cannot do itself.
enum class PointWise { none, gelu_tanh, silu };
void bias_activation(Tensor y, const float* bias, PointWise activation, Stream& stream);
void relative_bias(ConstTensor table, ConstTensor bucket, Tensor bias, Stream& stream);

void solver_step(const SolverStepArgs& args, Stream& stream);

void patchify(ConstTensor latent, const PatchGrid& grid, Tensor patches, Stream& stream);
void unpatchify(ConstTensor patches, const PatchGrid& grid, Tensor latent, Stream& stream);

}  // namespace longtake::cuda
