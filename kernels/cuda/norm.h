// CUDA backend of kernels/norm.h.
#pragma once

#include <cstdint>

#include "kernels/base/tensor.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// y = (x - mean) / sqrt(var + eps) * (scale + one_plus_scale) + shift; shift, scale f32 [n, dim] of
// one row stride; row i uses index modulation_row[i] (device memory), or 0 when it is null.
void layer_norm(ConstTensor x, ConstTensor shift, ConstTensor scale, const int32_t* modulation_row,
                bool one_plus_scale, float eps, Tensor y, Stream& stream);
// residual += gate * update (add_gated of kernels/cuda/elementwise.h), then y =
// layer_norm(residual): the same bits as the two calls, in one pass over memory.
void add_gated_layer_norm(ConstTensor update, ConstTensor gate, const int32_t* gate_row,
                          Tensor residual, ConstTensor shift, ConstTensor scale,
                          const int32_t* modulation_row, bool one_plus_scale, float eps, Tensor y,
                          Stream& stream);
// Without rotary embedding when `cosine` is empty.
void rms_norm(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine, ConstTensor sine,
              int64_t heads, Tensor y, Stream& stream);
void channel_norm(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, Stream& stream);

}  // namespace longtake::cuda
