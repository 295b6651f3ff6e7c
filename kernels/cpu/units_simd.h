// Units of 32 bits, one f32 or two bf16 that lie next to each other in a row, and their
// transposition in registers: what packing for products is made of.
#pragma once

#include "kernels/cpu/simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

// How elements become units: f32 as they are; `rounded`: bf16 data widened to f32; `pairs`: two
// bf16.
enum class Mode { exact, rounded, pairs };

typedef float vf_of_halves __attribute__((vector_size(kWidth * 4), aligned(2), may_alias));

template <class T>
LT_INLINE vf load_part(const T* p, int64_t n) {
  T lane[kWidth] = {};
  for (int64_t i = 0; i < n; ++i) lane[i] = p[i];
  return load(lane);
}

template <class T>
LT_INLINE vf load_up_to(const T* p, int64_t n) {
  return n >= kWidth ? load(p) : load_part(p, n);
}

// Units [unit, unit + kWidth) of a row of `dim` elements; zeros behind its end.
template <Mode mode>
LT_INLINE vf row_units(const void* row, int64_t unit, int64_t dim) {
  if constexpr (mode == Mode::exact) {
    return load_up_to(static_cast<const float*>(row) + unit, dim - unit);
  } else if constexpr (mode == Mode::rounded) {
    return load_up_to(static_cast<const uint16_t*>(row) + unit, dim - unit);
  } else {
    const uint16_t* p = static_cast<const uint16_t*>(row) + 2 * unit;
    const int64_t n = dim - 2 * unit;
    if (n >= 2 * kWidth) return *reinterpret_cast<const vf_of_halves*>(p);
    uint16_t lane[2 * kWidth] = {};
    for (int64_t i = 0; i < n; ++i) lane[i] = p[i];
    return *reinterpret_cast<const vf_of_halves*>(lane);
  }
}

template <int step, bool high>
LT_INLINE vf interleave(vf a, vf b) {
  vi mask;
  for (int lane = 0; lane < kWidth; ++lane) {
    const bool second = (lane & step) != 0;
    mask[lane] =
        high ? (second ? kWidth + lane : lane + step) : (second ? kWidth + lane - step : lane);
  }
  return shuffle(a, b, mask);
}

template <int step>
LT_INLINE void transpose(vf (&r)[kWidth]) {
  if constexpr (step < kWidth) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      if (i & step) continue;
      const vf a = r[i], b = r[i + step];
      r[i] = interleave<step, false>(a, b);
      r[i + step] = interleave<step, true>(a, b);
    }
    transpose<2 * step>(r);
  }
}

}  // namespace
}  // namespace longtake::cpu::LT_ISA_NS
