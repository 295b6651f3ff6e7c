// Arguments of the point-wise kernels from tensor views.
#pragma once

#include <span>

#include "kernels/base/error.h"
#include "kernels/base/tensor.h"
#include "kernels/cuda/elementwise_args.h"
#include "kernels/patch.h"

namespace longtake::cuda {

inline ConvertArgs convert_args(ConstTensor x, Tensor y) {
  return {x.data, x.dtype, y.data, y.dtype, x.numel()};
}

inline SiluArgs silu_args(ConstTensor x, Tensor y) {
  return {x.as<float>(), y.as<float>(), x.numel()};
}

inline GatedGeluArgs gated_gelu_args(ConstTensor a, ConstTensor b, Tensor y) {
  return {a.data, b.data, y.data, a.dtype, a.numel()};
}

inline AddRowsArgs add_args(ConstTensor x, Tensor y) {
  return {1, x.numel(), y.as<float>(), 0, x.as<float>(), 0, y.as<float>(), 0};
}

inline AddRowsArgs add_rows_args(ConstTensor rows, ConstTensor table, Tensor sum) {
  LT_CHECK(rows.rank() == 2 && sum.shape == rows.shape && table.numel() == rows.dim(1),
           "add_rows: expected a table and a sum for rows {}, found {} and {}", rows.shape.text(),
           table.shape.text(), sum.shape.text());
  return {rows.dim(0),       rows.dim(1), rows.as<float>(), rows.row_stride,
          table.as<float>(), 0,           sum.as<float>(),  sum.row_stride};
}

inline LinearCombinationArgs linear_combination_args(std::span<const ConstTensor> x,
                                                     std::span<const float> weight, Tensor y) {
  LT_CHECK(!x.empty() && x.size() <= kMostTerms && x.size() == weight.size(),
           "linear_combination: expected 1 to {} tensors with a weight each, found {} and {}",
           kMostTerms, x.size(), weight.size());
  LinearCombinationArgs a;
  a.terms = static_cast<int>(x.size());
  for (size_t k = 0; k < x.size(); ++k) {
    a.x[k] = x[k].as<float>();
    a.weight[k] = weight[k];
  }
  a.y = y.as<float>();
  a.n = y.numel();
  return a;
}

inline AddGatedArgs add_gated_args(ConstTensor update, ConstTensor gate, const int32_t* gate_row,
                                   Tensor residual) {
  LT_CHECK(residual.rank() == 2 && update.shape == residual.shape,
           "add_gated: expected y of the residual's shape {}, found {}", residual.shape.text(),
           update.shape.text());
  return {residual.dim(0),
          residual.dim(1),
          update.data,
          update.dtype,
          update.row_stride,
          gate ? gate.as<float>() : nullptr,
          gate.rank() == 2 ? gate.row_stride : 0,
          gate_row,
          residual.as<float>(),
          residual.row_stride};
}

inline BiasActivationArgs bias_activation_args(Tensor y, const float* bias, int activation) {
  LT_CHECK(y.rank() == 2, "bias_activation: expected y [rows, dim], found {}", y.shape.text());
  return {y.dim(0), y.dim(1), y.data, y.dtype, y.row_stride, bias, activation};
}

inline RelativeBiasArgs relative_bias_args(ConstTensor table, ConstTensor bucket, Tensor bias) {
  return {bias.dim(0), bias.dim(1), table.as<float>(), bucket.as<int32_t>(), bias.as<float>()};
}

inline PatchArgs patch_args(ConstTensor from, const PatchGrid& g, int64_t channels,
                            int64_t patch_stride, Tensor to) {
  PatchArgs a;
  for (size_t i = 0; i < 3; ++i) a.patch[i] = g.patch[i];
  a.frames = g.frames;
  a.rows = g.rows;
  a.columns = g.columns;
  a.channels = channels;
  a.from = from.as<float>();
  a.to = to.as<float>();
  a.patch_stride = patch_stride;
  LT_CHECK(from.numel() == a.count() && to.numel() == a.count(),
           "patches: expected {} elements, found {} and {}", a.count(), from.shape.text(),
           to.shape.text());
  return a;
}

}  // namespace longtake::cuda
