// Packing of queries, keys and values for products (attention_kernel.h has the layout): keys are
// transposed in registers, rows that end within a vector are filled with zeros.
#pragma once

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/product_simd.h"
#include "kernels/cpu/units_simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

LT_INLINE int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

// Columns [column, column + kWidth) of row k (pairs: rows 2k and 2k + 1) for a product across rows.
template <Mode mode>
LT_INLINE vf column_units(const void* const* rows, int64_t count, int64_t k, int64_t column,
                          int64_t head_dim) {
  auto at = [=](int64_t row) {
    if (row >= count) return vf{};
    if constexpr (mode == Mode::exact)
      return load_up_to(static_cast<const float*>(rows[row]) + column, head_dim - column);
    else
      return load_up_to(static_cast<const uint16_t*>(rows[row]) + column, head_dim - column);
  };
  if constexpr (mode == Mode::pairs)
    return (vf)(((vu)at(2 * k) >> 16) | (vu)at(2 * k + 1));
  else
    return at(k);
}

template <Mode mode>
void pack_keys(const AttentionPanel& p, int64_t depth) {
  float* panel = p.keys + p.first * depth;
  for (int64_t lane = 0; lane < kPanel; lane += kWidth) {
    for (int64_t unit = 0; unit < depth; unit += kWidth) {
      vf r[kWidth];
      for (int i = 0; i < kWidth; ++i)
        r[i] = lane + i < p.count ? row_units<mode>(p.key_rows[lane + i], unit, p.head_dim) : vf{};
      transpose<1>(r);
      const int64_t n = depth - unit < kWidth ? depth - unit : kWidth;
      for (int64_t i = 0; i < n; ++i) store(panel + (unit + i) * kPanel + lane, r[i]);
    }
  }
}

template <Mode mode>
void pack_values(const AttentionPanel& p) {
  constexpr int kKeys = mode == Mode::pairs ? 2 : 1;  // in a unit
  const int64_t columns = round_up(p.head_dim, kWidth);
  for (int64_t begin = 0; begin < columns; begin += kPanel) {
    const int64_t width = columns - begin < kPanel ? columns - begin : kPanel;
    float* panel = p.values + begin * (p.key_room / kKeys) + p.first / kKeys * width;
    for (int64_t k = 0; k < kPanel / kKeys; ++k)
      for (int64_t j = 0; j < width; j += kWidth)
        store(panel + k * width + j,
              column_units<mode>(p.value_rows, p.count, k, begin + j, p.head_dim));
  }
}

template <Mode mode>
void pack_panel(const AttentionPanel& p) {
  pack_keys<mode>(p, mode == Mode::pairs ? (p.head_dim + 1) / 2 : p.head_dim);
  pack_values<mode>(p);
}

}  // namespace
}  // namespace longtake::cpu::LT_ISA_NS
