// Packing of weights: blocks of rows are transposed in registers.
#include "kernels/cpu/kernels_simd.h"
#include "kernels/cpu/units_simd.h"

namespace longtake::cpu::LT_ISA_NS {

namespace {

constexpr int64_t kLine = 16;  // units of a cache line, written together

LT_INLINE int64_t at_most(int64_t a, int64_t b) {
  return a < b ? a : b;
}

template <Mode mode>
LT_INLINE void pack_tile(const PackRows& p, int64_t row, int64_t unit) {
  const int64_t row_bytes = p.dim * (p.type == RowType::f32 ? 4 : 2);
  const char* x = static_cast<const char*>(p.x) + row * row_bytes;
  vf r[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i)
    r[i] = row + i < p.rows ? row_units<mode>(x + i * row_bytes, unit, p.dim) : vf{};
  transpose<1>(r);
  const int64_t units = at_most(kWidth, p.units - unit), rows = at_most(kWidth, p.room - row);
  float* to = p.to + unit * p.stride + row;
  if (units == kWidth && rows == kWidth) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) store(to + i * p.stride, r[i]);
    return;
  }
  for (int64_t i = 0; i < units; ++i)
    for (int64_t j = 0; j < rows; ++j) to[i * p.stride + j] = r[i][j];
}

template <Mode mode>
void pack(const PackRows& p) {
  for (int64_t line = 0; line < p.room; line += kLine)
    for (int64_t unit = 0; unit < p.units; unit += kWidth)
      for (int64_t row = line; row < at_most(line + kLine, p.room); row += kWidth)
        pack_tile<mode>(p, row, unit);
}

}  // namespace

void pack_rows(const PackRows& p) {
  if (p.pairs)
    pack<Mode::pairs>(p);
  else if (p.type == RowType::f32)
    pack<Mode::exact>(p);
  else
    pack<Mode::rounded>(p);
}

}  // namespace longtake::cpu::LT_ISA_NS
