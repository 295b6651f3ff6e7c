// The weighted sum of partial attention results, of one query and head.
#include "kernels/cpu/kernels_simd.h"
#include "kernels/cpu/simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

template <class X>
LT_INLINE vf lanes(const void* p, int64_t at, int64_t n) {
  const X* x = static_cast<const X*>(p) + at;
  return n < kWidth ? load_some(x, n) : load(x);
}

template <class X, class Y>
void weighted(const WeightedRow& r) {
  Y* y = static_cast<Y*>(r.y);
  for (int64_t at = 0; at < r.n; at += kWidth) {
    const int64_t n = r.n - at;
    vf sum = r.count > 0 ? lanes<X>(r.x[0], at, n) * r.weight[0] : vf{};
    for (int i = 1; i < r.count; ++i) sum += lanes<X>(r.x[i], at, n) * r.weight[i];
    if (n < kWidth)
      store_some(y + at, sum, n);
    else
      store(y + at, sum);
  }
}

}  // namespace

void weighted_row(const WeightedRow& r) {
  const bool wide = r.y_type == RowType::f32;
  if (r.x_type == RowType::f32)
    wide ? weighted<float, float>(r) : weighted<float, uint16_t>(r);
  else
    wide ? weighted<uint16_t, float>(r) : weighted<uint16_t, uint16_t>(r);
}

}  // namespace longtake::cpu::LT_ISA_NS
