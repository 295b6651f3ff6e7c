// Arguments of the normalisation kernels from tensor views, and what the kernels cannot do.
#pragma once

#include <cmath>

#include "kernels/base/error.h"
#include "kernels/base/tensor.h"
#include "kernels/cuda/norm_args.h"
#include "kernels/cuda/row_plan.h"

namespace longtake::cuda {

inline Rows rows_of(Tensor x) {
  return {x.data, x.row_stride, x.dtype};
}
inline ConstRows rows_of(ConstTensor x) {
  return {x.data, x.row_stride, x.dtype};
}

inline int row_length(ConstTensor x) {
  LT_CHECK(x.rank() == 2 && x.dim(1) <= kLongestRow,
           "normalisation on a GPU: expected rows of up to {} elements, found {}", kLongestRow,
           x.shape.text());
  LT_CHECK(x.dim(0) < (int64_t{1} << 31), "normalisation on a GPU: too many rows: {}", x.dim(0));
  return static_cast<int>(x.dim(1));
}

inline LayerNormArgs layer_norm_args(ConstTensor x, ConstTensor shift, ConstTensor scale,
                                     const int32_t* modulation_row, bool one_plus_scale, float eps,
                                     Tensor y) {
  const int dim = row_length(x);
  // A vector [dim] is the one row there is.
  const int64_t stride = shift.rank() == 2 ? shift.row_stride : 0;
  return {
      x.dim(0),
      dim,
      1.0f / static_cast<float>(dim),
      eps,
      rows_of(x),
      {shift.as<float>(), scale.as<float>(), stride, modulation_row, one_plus_scale ? 1.0f : 0.0f},
      rows_of(y)};
}

inline GatedLayerNormArgs gated_layer_norm_args(ConstTensor update, ConstTensor gate,
                                                const int32_t* gate_row, Tensor residual,
                                                const LayerNormArgs& norm) {
  LT_CHECK(update.shape == residual.shape,
           "add_gated_layer_norm: expected an update of shape {}, found {}", residual.shape.text(),
           update.shape.text());
  return {rows_of(update),
          gate ? gate.as<float>() : nullptr,
          gate.rank() == 2 ? gate.row_stride : 0,
          gate_row,
          rows_of(residual),
          norm};
}

inline RmsNormArgs rms_norm_args(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine,
                                 ConstTensor sine, int64_t heads, Tensor y) {
  const int dim = row_length(x);
  return {x.dim(0),
          dim,
          1.0f / static_cast<float>(dim),
          eps,
          rows_of(x),
          weight.as<float>(),
          cosine ? cosine.as<float>() : nullptr,
          sine ? sine.as<float>() : nullptr,
          cosine.row_stride,
          dim / static_cast<int>(heads),
          rows_of(y)};
}

inline ChannelNormArgs channel_norm_args(ConstTensor x, ConstTensor gamma, bool activate,
                                         Tensor y) {
  const int dim = row_length(x);
  return {x.dim(0), dim,       std::sqrt(static_cast<float>(dim)), rows_of(x), gamma.as<float>(),
          activate, rows_of(y)};
}

}  // namespace longtake::cuda
