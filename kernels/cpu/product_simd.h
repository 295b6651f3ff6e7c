// C = A B or C = diag(factor) C + A B on blocks held in cache, f32 accumulators in registers.
// Operands are in units of 32 bits along the summed index: one f32, or two bf16 (pairs). Every
// element of C sums in the same order whatever the shape of the block.
#pragma once

#include "kernels/cpu/simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

// Rows x vectors of accumulators, plus the vectors of B and one broadcast of A, fill the registers:
// 32 with AVX-512, else 16.
#if defined(__AVX512F__)
constexpr int kVectors = 4;
#else
constexpr int kVectors = 2;
#endif
#if defined(__AVX2__)
constexpr int kGroup = 6;
#else
constexpr int kGroup = 4;  // without fused multiply-add a product needs a register of its own
#endif
constexpr int kPanel = kVectors * kWidth;

#if defined(__AVX512BF16__)
constexpr bool kHasPairs = true;
#else
constexpr bool kHasPairs = false;
#endif

struct Product {
  const float* a;  // [rows, depth] units
  int64_t lda;
  const float* b;  // [depth, vectors * kWidth] units
  int64_t ldb;
  int64_t depth;
  float* c;  // [rows, vectors * kWidth]
  int64_t ldc;
  const float* factor;  // [rows], or null: C starts at zero
  int64_t rows, vectors;
};

template <bool pairs>
LT_INLINE vf multiply_add(vf c, vf a, vf b) {
#if defined(__AVX512BF16__)
  if constexpr (pairs)
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
#endif
  return a * b + c;
}

// A unit in all lanes: a copy of bits, not a sum, so that it may hold two bf16.
LT_INLINE vf broadcast(const float* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return (vf)(vi{} + bits);
}

// The compiler would otherwise work out the address of every vector ahead and keep them all on the
// stack.
template <class T>
LT_INLINE T* next_row(T* p, int64_t stride) {
  p += stride;
  asm("" : "+r"(p));
  return p;
}

template <bool pairs, int rows, int vectors>
__attribute__((noinline)) void product_group(const Product& p, int64_t row) {
  const float* a = p.a + row * p.lda;
  const float* b = p.b;
  float* c = p.c + row * p.ldc;
  const int64_t lda = p.lda, ldb = p.ldb, ldc = p.ldc, depth = p.depth;
  vf acc[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) acc[i][j] = vf{};
  if (p.factor) {
    const float* from = c;
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i, from = next_row(from, ldc)) {
      const vf factor = set1(p.factor[row + i]);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) acc[i][j] = load(from + j * kWidth) * factor;
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    vf column[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) column[j] = load(b + k * ldb + j * kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const vf x = broadcast(a + i * lda + k);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) acc[i][j] = multiply_add<pairs>(acc[i][j], x, column[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i, c = next_row(c, ldc))
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) store(c + j * kWidth, acc[i][j]);
}

template <bool pairs, int vectors>
void product_rows(const Product& p) {
  for (int64_t row = 0; row < p.rows;) {
    const int64_t left = p.rows - row;
    // Two groups of 4 are faster than 6 and 2.
    const int64_t n = left == 7 || left == 8 ? 4 : left < kGroup ? left : kGroup;
    switch (n) {
      case 1:
        product_group<pairs, 1, vectors>(p, row);
        break;
      case 2:
        product_group<pairs, 2, vectors>(p, row);
        break;
      case 3:
        product_group<pairs, 3, vectors>(p, row);
        break;
      case 4:
        product_group<pairs, 4, vectors>(p, row);
        break;
      case 5:
        product_group<pairs, 5, vectors>(p, row);
        break;
      default:
        product_group<pairs, 6, vectors>(p, row);
        break;
    }
    row += n;
  }
}

template <bool pairs>
void product(const Product& p) {
  switch (p.vectors) {
    case 1:
      return product_rows<pairs, 1>(p);
    case 2:
      return product_rows<pairs, 2>(p);
#if defined(__AVX512F__)
    case 3:
      return product_rows<pairs, 3>(p);
    case 4:
      return product_rows<pairs, 4>(p);
#endif
  }
}

}  // namespace
}  // namespace longtake::cpu::LT_ISA_NS
