// Matrices where a check's kernels find them, and error bounds of the CUDA kernels.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "kernels/cuda/row_plan.h"
#include "tests/kernels/rows.h"

namespace longtake::testing {

using Doubles = std::vector<double>;

// How a matrix lies in a wider one: as it is; behind 8 columns of 24 more, so that chunks of 4
// columns still fit; or behind 3 of 8 more, so that they never do.
enum class Layout { dense, padded, shifted };
constexpr Layout kLayouts[] = {Layout::dense, Layout::padded, Layout::shifted};

inline int64_t columns_before(Layout layout) {
  return layout == Layout::dense ? 0 : layout == Layout::padded ? 8 : 3;
}
inline int64_t columns_more(Layout layout) {
  return layout == Layout::dense ? 0 : layout == Layout::padded ? 24 : 8;
}

inline void fill_nan(Tensor x) {
  for (int64_t row = 0; row < x.dim(0); ++row)
    for (int64_t i = 0; i < x.dim(1); ++i) {
      const int64_t at = row * x.row_stride + i;
      if (x.dtype == DType::f32)
        x.as<float>()[at] = std::numeric_limits<float>::quiet_NaN();
      else
        x.as<bf16>()[at] = {0x7fff};
    }
}

template <class Kernels>
class Placed {
 public:
  // Random elements, changed by `edit`.
  Placed(Kernels& k, int64_t rows, int64_t dim, Layout layout, DType dtype, uint64_t seed,
         float scale = 1, const std::function<void(Tensor)>& edit = {})
      : kernels_(&k),
        before_(columns_before(layout)),
        dim_(dim),
        host_(random_tensor({rows, dim + columns_more(layout)}, seed, scale, dtype)) {
    if (edit) edit(inside(host_.view()));
    there_ = k.up(host_);
  }

  Tensor view() { return inside(there_.view()); }
  ConstTensor view() const { return inside(there_.view()); }
  ConstTensor host() const { return inside(host_.view()); }
  Doubles doubles() const { return to_doubles(host()); }

  // worst_ratio of what is there now; infinite if columns outside of the matrix have changed.
  double ratio(const Doubles& expected, const Doubles& bound) const {
    const OwnedTensor now = kernels_->down(there_);
    for (int64_t row = 0; row < now.dim(0); ++row)
      for (int64_t i = 0; i < now.dim(1); ++i)
        if ((i < before_ || i >= before_ + dim_) && element(now, row, i) != element(host_, row, i))
          return HUGE_VAL;
    return worst_ratio(inside(now.view()), expected, bound);
  }
  OwnedTensor now() const { return kernels_->down(there_); }

 private:
  template <class View>
  View inside(View x) const {
    return x.columns(before_, before_ + dim_);
  }
  Kernels* kernels_;
  int64_t before_, dim_;
  OwnedTensor host_, there_;
};

// Roundings on the way of an element into a row's sum: those of its thread, of its warp, of the
// warps, and two of the division by dim.
template <int chunk>
double sum_roundings(int64_t dim) {
  const cuda::RowPlan plan = cuda::row_plan<chunk>(dim);
  return plan.vectors * chunk + 5 + plan.threads / 32 + 2;
}

// x s(z), s = 1 / (1 + e^-z) with z off by z_error: e^z is off by 2 + |z| units of 2^-23 (2^x by
// two, the constant log2(e) and the product with it by half a unit each of |z|), the reciprocal by
// one and the product with it by half a unit; it is 0 where 1 / s passes 2^126.
inline double cuda_sigmoid_error(double x, double z, double z_error) {
  const double s = 1 / (1 + std::exp(-z));
  const double exponential = (2 + std::abs(z)) * 2 * kUnit32 + z_error;
  return std::abs(x) * (s * (1 - s) * exponential + 5 * kUnit32 * s + 0x1p-126);
}
inline double cuda_silu_error(double x) {
  return cuda_sigmoid_error(x, x, 0);
}
// Terms of one sign; on the way to the argument: a constant, the square, their sum.
inline double cuda_gelu_error(double x) {
  const double z = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  return cuda_sigmoid_error(x, z, 4 * kUnit32 * std::abs(z));
}

}  // namespace longtake::testing
