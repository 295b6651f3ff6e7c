// What one thread moves at a time: a few neighbouring elements, in memory f32 or bf16 and in
// registers f32, by accesses of 16 bytes (8 for half a chunk). And the arithmetic of one element.
// Every rounding is written out (`__fmaf_rn` and its kin are never contracted), so that two kernels
// that share a function give the same bits. Also compiled for the host (tests/support/cuda_shim.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/base/dtype.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define LT_UNROLL _Pragma("unroll")
#else
#define LT_UNROLL
#endif

namespace longtake::cuda {

struct f16 {
  uint16_t bits;
};

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ float widen(bf16 x) {
  return __uint_as_float(uint32_t{x.bits} << 16);
}
__device__ __forceinline__ float widen(f16 x) {
#ifdef __CUDACC__
  return __half2float(__ushort_as_half(x.bits));
#else
  return f16_to_float(x.bits);
#endif
}

// Two bf16 in a word, the first one low: round to nearest even.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#ifdef __CUDACC__
  return uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(low))} |
         uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(high))} << 16;
#else
  return uint32_t{to_bf16(low).bits} | uint32_t{to_bf16(high).bits} << 16;
#endif
}

__device__ __forceinline__ void narrow(float x, float& y) {
  y = x;
}
__device__ __forceinline__ void narrow(float x, bf16& y) {
  y.bits = static_cast<uint16_t>(pack_bf16(x, 0.0f));
}

// Elements of a chunk: 16 bytes of the wider type.
template <class X, class Y>
constexpr int chunk_of() {
  return sizeof(X) == 4 || sizeof(Y) == 4 ? 4 : 8;
}

template <int C>
__device__ __forceinline__ void load_chunk(const float* p, float (&v)[C]) {
  static_assert(C == 1 || C % 2 == 0);
  if constexpr (C == 1) v[0] = *p;
  LT_UNROLL
  for (int i = 0; i < C / 4; ++i) {
    const float4 w = reinterpret_cast<const float4*>(p)[i];
    v[4 * i] = w.x;
    v[4 * i + 1] = w.y;
    v[4 * i + 2] = w.z;
    v[4 * i + 3] = w.w;
  }
  if constexpr (C % 4 == 2) {
    const float2 w = reinterpret_cast<const float2*>(p)[C / 4 * 2];
    v[C - 2] = w.x;
    v[C - 1] = w.y;
  }
}

template <class T>
__device__ __forceinline__ void split_word(uint32_t word, float& low, float& high) {
  low = widen(T{static_cast<uint16_t>(word)});
  high = widen(T{static_cast<uint16_t>(word >> 16)});
}

// bf16 or f16
template <class T, int C>
__device__ __forceinline__ void load_chunk(const T* p, float (&v)[C]) {
  static_assert(C == 1 || C == 4 || C == 8);
  if constexpr (C == 1) {
    v[0] = widen(*p);
  } else if constexpr (C == 4) {
    const uint2 w = *reinterpret_cast<const uint2*>(p);
    split_word<T>(w.x, v[0], v[1]);
    split_word<T>(w.y, v[2], v[3]);
  } else {
    const uint4 w = *reinterpret_cast<const uint4*>(p);
    split_word<T>(w.x, v[0], v[1]);
    split_word<T>(w.y, v[2], v[3]);
    split_word<T>(w.z, v[4], v[5]);
    split_word<T>(w.w, v[6], v[7]);
  }
}

// The 16 bytes of a chunk as they lie in memory: half the registers of bf16 until they are needed.
template <class T, int C>
__device__ __forceinline__ void split_words(uint4 w, float (&v)[C]) {
  static_assert(sizeof(T) * C == 16);
  if constexpr (C == 4) {
    v[0] = __uint_as_float(w.x);
    v[1] = __uint_as_float(w.y);
    v[2] = __uint_as_float(w.z);
    v[3] = __uint_as_float(w.w);
  } else {
    split_word<T>(w.x, v[0], v[1]);
    split_word<T>(w.y, v[2], v[3]);
    split_word<T>(w.z, v[4], v[5]);
    split_word<T>(w.w, v[6], v[7]);
  }
}

template <int C>
__device__ __forceinline__ void store_chunk(float* p, const float (&v)[C]) {
  if constexpr (C == 1) *p = v[0];
  LT_UNROLL
  for (int i = 0; i < C / 4; ++i)
    reinterpret_cast<float4*>(p)[i] = float4{v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]};
}

template <int C>
__device__ __forceinline__ void store_chunk(bf16* p, const float (&v)[C]) {
  static_assert(C == 1 || C == 4 || C == 8);
  if constexpr (C == 1)
    narrow(v[0], *p);
  else if constexpr (C == 4)
    *reinterpret_cast<uint2*>(p) = uint2{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])};
  else
    *reinterpret_cast<uint4*>(p) = uint4{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                                         pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
}

// Of a table that no thread writes while the kernel runs: may be read ahead of stores.
template <int C>
__device__ __forceinline__ void load_table(const float* p, float (&v)[C]) {
  static_assert(C % 2 == 0);
  LT_UNROLL
  for (int i = 0; i < C / 4; ++i) {
    const float4 w = __ldg(reinterpret_cast<const float4*>(p) + i);
    v[4 * i] = w.x;
    v[4 * i + 1] = w.y;
    v[4 * i + 2] = w.z;
    v[4 * i + 3] = w.w;
  }
  if constexpr (C % 4 == 2) {  // half a chunk of angles
    const float2 w = __ldg(reinterpret_cast<const float2*>(p) + C / 4 * 2);
    v[C - 2] = w.x;
    v[C - 1] = w.y;
  }
}

// 2^x, off by 2 units, and 1 / x, by one. What would be subnormal is 0: one instruction each.
__device__ __forceinline__ float exp2_of(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}
__device__ __forceinline__ float reciprocal_of(float x) {
#ifdef __CUDACC__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// x sigmoid(z), given -log2(e) z; 0 where 1 + e^-z passes 2^126. With the operators around it the
// number of instructions decides: at 25 of them an element, bf16 is no longer bound by memory.
__device__ __forceinline__ float times_sigmoid(float x, float exponent) {
  return __fmul_rn(x, reciprocal_of(__fadd_rn(1.0f, exp2_of(exponent))));
}
__device__ __forceinline__ float silu_of(float x) {
  return times_sigmoid(x, __fmul_rn(-1.4426950408889634f, x));
}
// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
__device__ __forceinline__ float gelu_of(float x) {
  constexpr double kFactor = -1.5957691216057308 * 1.4426950408889634;
  constexpr float kLinear = static_cast<float>(kFactor),
                  kCubic = static_cast<float>(0.044715 * kFactor);
  return times_sigmoid(x, __fmul_rn(x, __fmaf_rn(__fmul_rn(x, x), kCubic, kLinear)));
}

__device__ __forceinline__ float add_gated_of(float residual, float gate, float y) {
  return __fmaf_rn(gate, y, residual);
}

}  // namespace longtake::cuda
