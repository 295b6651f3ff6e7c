// Arguments of the point-wise kernels: device pointers and strides in elements.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace longtake::cuda {

constexpr int kMostTerms = 8;

struct ConvertArgs {
  const void* x = nullptr;
  DType x_type = DType::f32;  // f32, bf16, f16
  void* y = nullptr;
  DType y_type = DType::f32;  // f32, bf16, not that of x
  int64_t n = 0;
};

struct SiluArgs {
  const float* x = nullptr;
  float* y = nullptr;
  int64_t n = 0;
};

// y = gelu(a) * b
struct GatedGeluArgs {
  const void* a = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  DType type = DType::f32;
  int64_t n = 0;
};

// sum[row] = x[row] + y[row]; a stride of 0 repeats a row.
struct AddRowsArgs {
  int64_t rows = 0, columns = 0;
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* y = nullptr;
  int64_t y_stride = 0;
  float* sum = nullptr;
  int64_t sum_stride = 0;
};

struct LinearCombinationArgs {
  int terms = 0;
  const float* x[kMostTerms] = {};
  float weight[kMostTerms] = {};
  float* y = nullptr;
  int64_t n = 0;
};

struct AddGatedArgs {
  int64_t rows = 0, columns = 0;
  const void* update = nullptr;
  DType update_type = DType::f32;
  int64_t update_stride = 0;
  const float* gate = nullptr;  // null: 1
  int64_t gate_stride = 0;
  const int32_t* gate_row = nullptr;
  float* residual = nullptr;
  int64_t residual_stride = 0;
};

struct BiasActivationArgs {
  int64_t rows = 0, columns = 0;
  void* y = nullptr;
  DType type = DType::f32;
  int64_t stride = 0;
  const float* bias = nullptr;  // null: 0
  int activation = 0;           // PointWise
};

// *flag becomes 1 when an element is not finite.
struct NotFiniteArgs {
  const void* x = nullptr;
  DType type = DType::f32;  // f32, bf16, f16, f64
  int64_t n = 0;
  int32_t* flag = nullptr;
};

// kernels/elementwise.h, relative_bias
struct RelativeBiasArgs {
  int64_t heads = 0, tokens = 0;
  const float* table = nullptr;
  const int32_t* bucket = nullptr;
  float* bias = nullptr;
};

struct PatchArgs {
  int64_t patch[3] = {};                      // frames, rows, columns of a patch
  int64_t frames = 0, rows = 0, columns = 0;  // patches
  int64_t channels = 0;
  const float* from = nullptr;
  float* to = nullptr;
  int64_t patch_stride = 0;  // elements between tokens

  // Elements of all patches.
  constexpr int64_t count() const {
    return frames * rows * columns * channels * patch[0] * patch[1] * patch[2];
  }
};

}  // namespace longtake::cuda
