// Point-wise operators: one kernel walks over rows of columns, an operator says what it reads and
// computes. A block holds some chunks per thread of one row; all of its loads are issued
// before the first store, so that enough bytes are under way.
#pragma once

#include "kernels/cuda/chunk.cuh"
#include "kernels/cuda/elementwise_args.h"

namespace longtake::cuda {

constexpr int kPointThreads = 256;

// An operator has kInputs, kChunk, kUnroll (chunks of a thread) and
//   load(row, column, v)    v[kInputs][n] = its operands at n columns
//   value(v, i, column)     the result of operands v[...][i]
//   store(row, column, y)   n results
template <class Op, int n>
__device__ __forceinline__ void point(const Op& op, int64_t row, int64_t column,
                                      const float (&v)[Op::kInputs][n]) {
  float y[n];
  LT_UNROLL
  for (int i = 0; i < n; ++i) y[i] = op.value(v, i);
  op.store(row, column, y);
}

template <class Op>
__global__ void __launch_bounds__(kPointThreads)
    pointwise_kernel(Op op, int64_t columns, unsigned tiles, bool vector) {
  constexpr int C = Op::kChunk, U = Op::kUnroll;
  const int64_t row = blockIdx.x / tiles;
  const int64_t begin =
      (int64_t{blockIdx.x % tiles} * (kPointThreads * U) + static_cast<int>(threadIdx.x)) * C;
  float v[U][Op::kInputs][C];
  LT_UNROLL
  for (int u = 0; u < U; ++u) {
    const int64_t at = begin + int64_t{u} * kPointThreads * C;
    if (vector && at + C <= columns) op.load(row, at, v[u]);
  }
  LT_UNROLL
  for (int u = 0; u < U; ++u) {
    const int64_t at = begin + int64_t{u} * kPointThreads * C;
    if (vector && at + C <= columns) {
      point<Op, C>(op, row, at, v[u]);
    } else {
      for (int64_t i = at; i < at + C && i < columns; ++i) {
        float one[Op::kInputs][1];
        op.load(row, i, one);
        point<Op, 1>(op, row, i, one);
      }
    }
  }
}

template <class X, class Y>
struct Convert {
  static constexpr int kInputs = 1, kChunk = chunk_of<X, Y>(), kUnroll = 16 / kChunk;
  const X* x;
  Y* y;

  template <int n>
  __device__ __forceinline__ void load(int64_t, int64_t at, float (&v)[1][n]) const {
    load_chunk(x + at, v[0]);
  }
  template <int n>
  __device__ __forceinline__ float value(const float (&v)[1][n], int i) const {
    return v[0][i];
  }
  template <int n>
  __device__ __forceinline__ void store(int64_t, int64_t at, const float (&v)[n]) const {
    store_chunk(y + at, v);
  }
};

struct Silu {
  static constexpr int kInputs = 1, kChunk = 4, kUnroll = 4;
  const float* x;
  float* y;

  template <int n>
  __device__ __forceinline__ void load(int64_t, int64_t at, float (&v)[1][n]) const {
    load_chunk(x + at, v[0]);
  }
  template <int n>
  __device__ __forceinline__ float value(const float (&v)[1][n], int i) const {
    return silu_of(v[0][i]);
  }
  template <int n>
  __device__ __forceinline__ void store(int64_t, int64_t at, const float (&v)[n]) const {
    store_chunk(y + at, v);
  }
};

template <class T>
struct GatedGelu {
  static constexpr int kInputs = 2, kChunk = chunk_of<T, T>(), kUnroll = 2;
  const T* a;
  const T* b;
  T* y;

  template <int n>
  __device__ __forceinline__ void load(int64_t, int64_t at, float (&v)[2][n]) const {
    load_chunk(a + at, v[0]);
    load_chunk(b + at, v[1]);
  }
  template <int n>
  __device__ __forceinline__ float value(const float (&v)[2][n], int i) const {
    return __fmul_rn(gelu_of(v[0][i]), v[1][i]);
  }
  template <int n>
  __device__ __forceinline__ void store(int64_t, int64_t at, const float (&v)[n]) const {
    store_chunk(y + at, v);
  }
};

// sum[row] = x[row] + y[row]; strides may be 0.
struct AddRows {
  static constexpr int kInputs = 2, kChunk = 4, kUnroll = 2;
  const float* x;
  int64_t x_stride;
  const float* y;
  int64_t y_stride;
  float* sum;
  int64_t sum_stride;

  template <int n>
  __device__ __forceinline__ void load(int64_t row, int64_t at, float (&v)[2][n]) const {
    load_chunk(x + row * x_stride + at, v[0]);
    load_chunk(y + row * y_stride + at, v[1]);
  }
  template <int n>
  __device__ __forceinline__ float value(const float (&v)[2][n], int i) const {
    return __fadd_rn(v[0][i], v[1][i]);
  }
  template <int n>
  __device__ __forceinline__ void store(int64_t row, int64_t at, const float (&v)[n]) const {
    store_chunk(sum + row * sum_stride + at, v);
  }
};

// Left to right, each product rounded into the sum once.
template <int terms>
struct LinearCombination {
  static constexpr int kInputs = terms, kChunk = 4;
  static constexpr int kUnroll = terms <= 2 ? 4 : terms <= 4 ? 2 : 1;
  const float* x[terms];
  float weight[terms];
  float* y;

  template <int n>
  __device__ __forceinline__ void load(int64_t, int64_t at, float (&v)[terms][n]) const {
    LT_UNROLL
    for (int k = 0; k < terms; ++k) load_chunk(x[k] + at, v[k]);
  }
  template <int n>
  __device__ __forceinline__ float value(const float (&v)[terms][n], int i) const {
    float sum = __fmul_rn(v[0][i], weight[0]);
    LT_UNROLL
    for (int k = 1; k < terms; ++k) sum = __fmaf_rn(v[k][i], weight[k], sum);
    return sum;
  }
  template <int n>
  __device__ __forceinline__ void store(int64_t, int64_t at, const float (&v)[n]) const {
    store_chunk(y + at, v);
  }
};

// Also what comes first in a gated layer norm (norm_kernels.cuh): the same function.
template <class T>
struct AddGated {
  static constexpr int kInputs = 3, kChunk = 4, kUnroll = 2;
  const T* update;
  int64_t update_stride;
  const float* gate;  // null: 1
  int64_t gate_stride;
  const int32_t* gate_row;
  float* residual;
  int64_t residual_stride;

  template <int n>
  __device__ __forceinline__ void load(int64_t row, int64_t at, float (&v)[3][n]) const {
    load_chunk(residual + row * residual_stride + at, v[0]);
    load_chunk(update + row * update_stride + at, v[1]);
    if (gate) {
      load_chunk(gate + (gate_row ? gate_row[row] * gate_stride : 0) + at, v[2]);
    } else {
      LT_UNROLL
      for (int i = 0; i < n; ++i) v[2][i] = 1.0f;
    }
  }
  template <int n>
  __device__ __forceinline__ float value(const float (&v)[3][n], int i) const {
    return add_gated_of(v[0][i], v[2][i], v[1][i]);
  }
  template <int n>
  __device__ __forceinline__ void store(int64_t row, int64_t at, const float (&v)[n]) const {
    store_chunk(residual + row * residual_stride + at, v);
  }
};

// activation: 0 none, 1 gelu, 2 silu (PointWise).
template <int activation>
__device__ __forceinline__ float activate_biased(float y, float bias) {
  const float x = __fadd_rn(y, bias);
  return activation == 1 ? gelu_of(x) : activation == 2 ? silu_of(x) : x;
}

// y = activation(y + bias). A thread has one chunk of columns of kBiasRows rows, so that the bias,
// twice as wide as rows of bf16, is read once for all of them.
constexpr int kBiasThreads = 128, kBiasRows = 4;

template <class T, int activation>
__global__ void __launch_bounds__(kBiasThreads)
    bias_activation_kernel(T* y, int64_t stride, const float* bias, int64_t rows, int64_t columns,
                           unsigned tiles, bool vector) {
  constexpr int C = chunk_of<T, T>();
  const int64_t row = int64_t{blockIdx.x / tiles} * kBiasRows;
  const int64_t at =
      (int64_t{blockIdx.x % tiles} * kBiasThreads + static_cast<int>(threadIdx.x)) * C;
  if (at >= columns) return;
  y += row * stride + at;
  const int most = rows - row < kBiasRows ? static_cast<int>(rows - row) : kBiasRows;
  if (vector && at + C <= columns) {
    uint4 words[kBiasRows];
    LT_UNROLL
    for (int r = 0; r < kBiasRows; ++r)
      if (r < most) words[r] = *reinterpret_cast<const uint4*>(y + r * stride);
    float b[C] = {};
    if (bias) load_table(bias + at, b);
    LT_UNROLL
    for (int r = 0; r < kBiasRows; ++r) {
      float v[C];
      split_words<T>(words[r], v);
      LT_UNROLL
      for (int i = 0; i < C; ++i) v[i] = activate_biased<activation>(v[i], b[i]);
      if (r < most) store_chunk(y + r * stride, v);
    }
    return;
  }
  for (int r = 0; r < most; ++r)
    for (int i = 0; i < C && at + i < columns; ++i) {
      T& element = y[r * stride + i];
      narrow(activate_biased<activation>(widen(element), bias ? bias[at + i] : 0.0f), element);
    }
}

// Sets *flag when an element's exponent is all ones: an infinity or NaN. Any number of threads may
// write the same value.
template <class Bits>
__global__ void __launch_bounds__(kPointThreads)
    find_not_finite_kernel(const Bits* x, int64_t n, Bits exponent, bool vector, int32_t* flag) {
  constexpr int C = 16 / sizeof(Bits);
  struct alignas(16) Chunk {
    Bits e[C];
  };
  const int64_t step = int64_t{gridDim.x} * kPointThreads;
  const int64_t thread = int64_t{blockIdx.x} * kPointThreads + static_cast<int>(threadIdx.x);
  const int64_t chunks = vector ? n / C : 0;
  bool bad = false;
#ifdef __CUDACC__
#pragma unroll 4
#endif
  for (int64_t i = thread; i < chunks; i += step) {
    const Chunk chunk = reinterpret_cast<const Chunk*>(x)[i];
    LT_UNROLL
    for (int k = 0; k < C; ++k) bad |= (chunk.e[k] & exponent) == exponent;
  }
  for (int64_t i = chunks * C + thread; i < n; i += step) bad |= (x[i] & exponent) == exponent;
  if (bad) *flag = 1;
}

}  // namespace longtake::cuda
