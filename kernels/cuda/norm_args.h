// Arguments of the normalisation kernels: device pointers and strides in elements.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace longtake::cuda {

struct Rows {
  void* data = nullptr;
  int64_t stride = 0;
  DType dtype = DType::f32;
};
struct ConstRows {
  const void* data = nullptr;
  int64_t stride = 0;
  DType dtype = DType::f32;
};

// f32 [n, dim] each, of one row stride; row i of the operator uses index row[i], or 0.
struct Modulation {
  const float* shift = nullptr;
  const float* scale = nullptr;
  int64_t stride = 0;
  const int32_t* row = nullptr;
  float one = 0;  // added to scale
};

struct LayerNormArgs {
  int64_t rows = 0;
  int dim = 0;
  float inverse_dim = 0, eps = 0;
  ConstRows x;  // f32
  Modulation modulation;
  Rows y;
};

// residual += gate * update, then y = layer norm of residual.
struct GatedLayerNormArgs {
  ConstRows update;
  const float* gate = nullptr;  // null: 1
  int64_t gate_stride = 0;
  const int32_t* gate_row = nullptr;
  Rows residual;       // f32
  LayerNormArgs norm;  // x unused
};

struct RmsNormArgs {
  int64_t rows = 0;
  int dim = 0;
  float inverse_dim = 0, eps = 0;
  ConstRows x;
  const float* weight = nullptr;
  const float* cosine = nullptr;  // [rows, head_dim / 2]; null: no rotation
  const float* sine = nullptr;
  int64_t angle_stride = 0;
  int head_dim = 0;
  Rows y;
};

struct ChannelNormArgs {
  int64_t rows = 0;
  int dim = 0;
  float root = 0;  // sqrt(dim)
  ConstRows x;
  const float* gamma = nullptr;
  bool activate = false;
  Rows y;
};

}  // namespace longtake::cuda
