// Multiply-adds on registers only: enough independent chains to hide their latency.
#include "kernels/cpu/kernels_simd.h"
#include "kernels/cpu/product_simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

#if defined(__AVX512F__)
constexpr int kChains = 24;
#else
constexpr int kChains = 12;
#endif

template <bool pairs>
float chains(int64_t rounds, float x) {
  vf acc[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) acc[i] = set1(x + static_cast<float>(i));
  const vf a = set1(x), b = set1(x + 1.0f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) {
      if constexpr (pairs)
        acc[i] = multiply_add<true>(acc[i], a, b);
      else
        acc[i] = acc[i] * a + b;  // stays finite: x is below 1
    }
  }
  vf total{};
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) total += acc[i];
  return sum(total);
}

}  // namespace

const PeakKernel kPeak{2.0 * kChains * kWidth, chains<false>, 4.0 * kChains* kWidth,
                       kHasPairs ? chains<kHasPairs> : nullptr};

}  // namespace longtake::cpu::LT_ISA_NS
