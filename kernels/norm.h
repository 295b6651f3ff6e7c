// Row-wise normalisations. Statistics in f32.
#pragma once

#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

// y = (x - mean) / sqrt(var + eps) * (1 + scale) + shift. x f32 [rows, dim], y f32 or bf16, shift
// and scale f32 [n, dim]; with n > 1 row i uses index modulation_row[i] (on the device of x)
// (wan.md 2.2.6: adaptive layer norm).
void layer_norm_modulate(ConstTensor x, ConstTensor shift, ConstTensor scale,
                         const int32_t* modulation_row, float eps, Tensor y, StreamRef stream);

// y = (x - mean) / sqrt(var + eps) * weight + bias; weight, bias f32 [dim].
void layer_norm_affine(ConstTensor x, ConstTensor weight, ConstTensor bias, float eps, Tensor y,
                       StreamRef stream);

// Either of the two.
struct LayerNorm {
  ConstTensor shift, scale;  // bias and weight f32 [dim] of the affine one
  const int32_t* modulation_row = nullptr;
  bool modulated = true;
  float eps = 1e-6f;
};
void layer_norm(ConstTensor x, const LayerNorm& norm, Tensor y, StreamRef stream);

// y = x / sqrt(mean(x^2) + eps) * weight over the whole row; x, y f32 or bf16 [rows, dim]; weight
// f32.
void rms_norm(ConstTensor x, ConstTensor weight, float eps, Tensor y, StreamRef stream);

// rms_norm over the row, then rotary embedding of interleaved pairs within each head:
// (a, b) -> (a cos - b sin, a sin + b cos). x, y [rows, heads * head_dim]; cosine, sine f32
// [rows, head_dim / 2] (row stride free).
void rms_norm_rope(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine,
                   ConstTensor sine, int64_t heads, Tensor y, StreamRef stream);

// Channel normalisation of the VAE and its activation: y = silu(x / max(|x|, 1e-12) sqrt(dim)
// gamma); without silu when `activate` is false. x, y f32 or bf16 [rows, dim], gamma f32 [dim].
void channel_norm_silu(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, StreamRef stream);

}  // namespace longtake
