// Launcher of conv_direct.cuh.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/cuda/conv_rows.h"

namespace longtake::cuda {

constexpr int kDirectMostOut = 16;

// The whole of a convolution whose kernel is 3 x 3 with stride 1.
struct DirectConvArgs {
  ConvRows rows;                  // all output rows
  DType frame_type, weight_type;  // f32 or bf16; not bf16 frames with f32 weights
  const void* weight;             // [out, rows.columns]
  const float* bias;              // null: 0
  float* y;                       // [rows.rows, rows.width_out, out]
  int out;                        // at most kDirectMostOut
  bool accumulate;
};

void start(const DirectConvArgs& a, CUstream_st* stream);

}  // namespace longtake::cuda
