// Launchers of the device code of convolutions.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

struct CUstream_st;

namespace longtake::cuda {

// Rows of the matrix [positions, columns] whose product with the weights is the convolution: row
// (h, w) holds what output position (h, w) sees, as (tap, kernel row, kernel column, channel), then
// zeros.
struct ConvRows {
  static constexpr int kMostTaps = 8;
  const void* frames[kMostTaps];  // [height, width, in] each; null: zeros
  int taps, kernel_rows, kernel_columns, stride;
  int height, width, in;
  int pad_top, pad_left;
  int columns;                     // of the matrix, at least taps kernel_rows kernel_columns in
  int first_row, rows, width_out;  // output rows of this part
};

// f32 or bf16 frames to an f32 or bf16 matrix; not bf16 to f32.
void conv_rows(const ConvRows& r, DType frames, DType matrix_type, void* matrix,
               CUstream_st* stream);

// x and y of one type, f32 or bf16.
void upsample_nearest(const void* x, DType type, int64_t height, int64_t width, int64_t channels,
                      void* y, CUstream_st* stream);
// kernels/conv.h, upsample_duplicate
void upsample_duplicate(const float* x, int64_t height, int64_t width, int64_t in, int64_t out,
                        int64_t times, int64_t time, float* y, CUstream_st* stream);

}  // namespace longtake::cuda
