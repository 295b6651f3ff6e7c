// Launchers of attention_products.cuh.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

struct CUstream_st;

namespace longtake::cuda {

struct SoftmaxRowsArgs {
  const float* logits;  // [rows, pitch], before the scale
  void* weights;        // [rows, pitch]: f32 (may be the logits) or bf16, zeros behind the keys
  float* lse;           // [rows] or null
  int64_t rows, keys, pitch;
  float scale;
};
struct TransposeArgs {
  const void* x;  // [rows, columns], row stride `stride`
  void* y;        // [columns, pitch], zeros behind the rows
  int64_t rows, columns, stride, pitch;
};
void start(const SoftmaxRowsArgs& a, DType type, CUstream_st* stream);
void start(const TransposeArgs& a, DType type, CUstream_st* stream);

}  // namespace longtake::cuda
