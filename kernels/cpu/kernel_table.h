// The vector kernels of one instruction set, as plain functions on raw rows. One table per
// instruction set; active_kernels() is the one in use. bf16 data is passed as uint16_t.
#pragma once

#include <stdint.h>

namespace longtake::cpu {

enum class RowType : int { f32, bf16 };

struct ModulateRows {
  const float* x;
  int64_t x_stride;
  void* y;
  RowType y_type;
  int64_t y_stride;
  const float* shift;  // [n, dim]
  const float* scale;
  int64_t modulation_stride;
  const int32_t* modulation_row;  // may be null
  bool one_plus_scale;            // y = n (1 + scale) + shift, else n scale + shift
  float eps;
  int64_t begin, end, dim;  // rows [begin, end)
};

struct RmsRows {
  const void* x;
  RowType x_type;
  int64_t x_stride;
  void* y;
  RowType y_type;
  int64_t y_stride;
  const float* weight;
  float eps;
  const float* cosine;  // null: no rotation
  const float* sine;
  int64_t rope_stride;
  int64_t heads;
  int64_t begin, end, dim;
};

struct ChannelNormRows {
  const void* x;
  RowType x_type;
  void* y;
  RowType y_type;
  const float* gamma;
  bool activate;
  int64_t begin, end, dim;  // dense rows
};

// What follows a matrix product whose rows lie in `acc` (f32): see LinearArgs.
struct EpilogueRows {
  const float* acc;
  int64_t acc_stride;
  const float* bias;  // may be null
  int activation;     // of longtake::Activation
  void* y;            // null: residual
  RowType y_type;
  int64_t y_stride;
  float* residual;
  int64_t residual_stride;
  const float* gate;  // may be null
  int64_t gate_stride;
  const int32_t* gate_row;  // may be null; indexed like acc's rows
  int64_t rows, columns;
};

// y = the sum of weight[i] x[i], from left to right, of n elements each; 0 without any.
struct WeightedRow {
  static constexpr int kMost = 16;
  const void* x[kMost];
  RowType x_type;
  float weight[kMost];
  int count;
  void* y;
  RowType y_type;
  int64_t n;
};

// Rows of a matrix for a product along them, transposed: unit u of row i, one f32 or (pairs) two
// bf16, goes to to[u * stride + i].
struct PackRows {
  const void* x;  // [rows, dim], dense; null without rows
  RowType type;
  bool pairs;  // bf16 only
  int64_t rows, dim;
  int64_t room;   // rows to write; those behind `rows` are zero
  int64_t units;  // to write of a row; those behind its end are zero
  float* to;
  int64_t stride;
};

struct AttentionKernel;  // attention_kernel.h
struct PeakKernel;       // peak.h

struct KernelTable {
  void (*modulate)(const ModulateRows&);
  void (*rms)(const RmsRows&);
  void (*channel_norm)(const ChannelNormRows&);
  void (*epilogue)(const EpilogueRows&);
  void (*silu)(const float* x, float* y, int64_t n);
  void (*gated_gelu)(const void* a, const void* b, void* y, RowType type, int64_t n);
  void (*add)(const float* x, float* y, int64_t n);
  void (*linear_combination)(const float* const* x, const float* weight, int count, float* y,
                             int64_t n);
  void (*to_bf16)(const float* x, uint16_t* y, int64_t n);
  void (*to_f32)(const uint16_t* x, float* y, int64_t n);
  void (*weighted_row)(const WeightedRow&);
  void (*pack_rows)(const PackRows&);
  const AttentionKernel* attention;
  const PeakKernel* peak;
};

const KernelTable& active_kernels();

namespace portable {
const KernelTable& table();
}
namespace avx2 {
const KernelTable& table();
}
namespace avx512 {
const KernelTable& table();
}
namespace avx512_bf16 {
const KernelTable& table();
}

}  // namespace longtake::cpu
