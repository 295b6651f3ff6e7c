// Vectors of floats for the files named *_simd.cc. Each of them is compiled once per instruction
// set (CMakeLists.txt) into its own namespace, LT_ISA_NS; the compiler's vector extension keeps the
// source the same for all. Such a file must not use inline functions or templates of other headers:
// the linker could keep the copy that was compiled with instructions the processor lacks.
// Everything here is static or internal for that reason (tests/kernels/isa_symbols checks it).
#pragma once

#include <stdint.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace longtake::cpu::LT_ISA_NS {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float vf __attribute__((vector_size(kWidth * 4)));
typedef int32_t vi __attribute__((vector_size(kWidth * 4)));
typedef uint32_t vu __attribute__((vector_size(kWidth * 4)));
typedef uint16_t vh __attribute__((vector_size(kWidth * 2)));
typedef float vf_unaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef uint16_t vh_unaligned __attribute__((vector_size(kWidth * 2), aligned(2), may_alias));

#define LT_INLINE static inline __attribute__((always_inline))

LT_INLINE vf set1(float x) {
  return vf{} + x;
}
LT_INLINE vf load(const float* p) {
  return *reinterpret_cast<const vf_unaligned*>(p);
}
LT_INLINE void store(float* p, vf x) {
  *reinterpret_cast<vf_unaligned*>(p) = x;
}

// bf16 is the upper half of an f32; storing rounds to nearest even. A NaN would
// overflow when its low bits are set: all become the same one.
LT_INLINE vf widen(vh h) {
  return (vf)(__builtin_convertvector(h, vu) << 16);
}
LT_INLINE vh narrow(vf x) {
  const vu u = x != x ? vu{} + 0x7fc00000u : (vu)x;
  return __builtin_convertvector((u + 0x7fffu + ((u >> 16) & 1u)) >> 16, vh);
}
LT_INLINE vf load(const uint16_t* p) {
  return widen(*reinterpret_cast<const vh_unaligned*>(p));
}
LT_INLINE void store(uint16_t* p, vf x) {
#if defined(__AVX512BF16__)
  *reinterpret_cast<vh_unaligned*>(p) = (vh)_mm512_cvtneps_pbh((__m512)x);
#else
  *reinterpret_cast<vh_unaligned*>(p) = narrow(x);
#endif
}

// Scalars, for tails. The same arithmetic as one lane.
LT_INLINE float load1(const float* p) {
  return *p;
}
LT_INLINE float load1(const uint16_t* p) {
  const uint32_t u = uint32_t{*p} << 16;
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}
LT_INLINE void store1(float* p, float x) {
  *p = x;
}
LT_INLINE void store1(uint16_t* p, float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  if (x != x) u = 0x7fc00000u;
  *p = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// The first n < kWidth lanes, for tails; the others are zero, or not stored.
LT_INLINE vf keep_lanes(vf x, int64_t n) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_mov_ps(static_cast<__mmask16>((1u << n) - 1u), (__m512)x);
#else
  vi lane;
  for (int i = 0; i < kWidth; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? x : vf{};
#endif
}
template <class T>
LT_INLINE vf load_some(const T* p, int64_t n) {
  float lane[kWidth] = {};
  for (int64_t i = 0; i < n; ++i) lane[i] = load1(p + i);
  return load(lane);
}
template <class T>
LT_INLINE void store_some(T* p, vf x, int64_t n) {
  T lane[kWidth];
  store(lane, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lane[i];
}
#if defined(__AVX512F__)
LT_INLINE vf load_some(const float* p, int64_t n) {
  return (vf)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
}
LT_INLINE void store_some(float* p, vf x, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), (__m512)x);
}
#endif

// Lanes of a, numbered from 0, and of b, from kWidth on, in the order of `index`. Clang's own
// shuffle takes literal constants only.
LT_INLINE vf shuffle(vf a, vf b, vi index) {
#if defined(__clang__)
  vf out;
  for (int lane = 0; lane < kWidth; ++lane)
    out[lane] = index[lane] < kWidth ? a[index[lane]] : b[index[lane] - kWidth];
  return out;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

LT_INLINE vf max(vf a, vf b) {
  return a > b ? a : b;
}
LT_INLINE vf min(vf a, vf b) {
  return a < b ? a : b;
}

LT_INLINE vf sqrt(vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);  // the plain one warns in GCC 12
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#else
  for (int i = 0; i < kWidth; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// One fixed order: pairs at distance width/2, then width/4, ...
LT_INLINE float sum(vf x) {
  float lane[kWidth];
  store(lane, x);
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}
LT_INLINE float max(vf x) {
  float lane[kWidth];
  store(lane, x);
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  return lane[0];
}

// 2^x for x in [-126, 127], below clamps to 2^-126; degree-6 minimax polynomial on [-0.5, 0.5],
// relative error below 2e-7.
LT_INLINE vf exp2(vf x) {
  x = max(x, set1(-126.0f));
  x = min(x, set1(127.0f));
  const vf shifted = x + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const vf f = x - (shifted - 12582912.0f);
  vf p = set1(1.535336188319500e-4f);
  p = p * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  return (vf)((vi)p + ((vi)shifted << 23));
}
LT_INLINE vf exp(vf x) {
  return exp2(x * 1.4426950408889634f);
}

LT_INLINE vf sigmoid(vf x) {
  return 1.0f / (1.0f + exp(-x));
}
LT_INLINE vf silu(vf x) {
  return x * sigmoid(x);
}
// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))
LT_INLINE vf gelu_tanh(vf x) {
  return x * sigmoid(1.5957691216057308f * (x + 0.044715f * x * x * x));
}

}  // namespace
}  // namespace longtake::cpu::LT_ISA_NS
