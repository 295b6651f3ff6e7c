// The GPU behind the functions that the checks of tests/cuda_host run on.
#pragma once

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/norm.h"
#include "tests/gpu/gpu.h"

namespace longtake::testing {

class GpuKernels : public Gpu {
 public:
  void layer_norm(ConstTensor x, ConstTensor shift, ConstTensor scale, const int32_t* row,
                  bool one_plus_scale, float eps, Tensor y) {
    cuda::layer_norm(x, shift, scale, row, one_plus_scale, eps, y, queue());
  }
  void add_gated_layer_norm(ConstTensor update, ConstTensor gate, const int32_t* gate_row,
                            Tensor residual, ConstTensor shift, ConstTensor scale,
                            const int32_t* row, bool one_plus_scale, float eps, Tensor y) {
    cuda::add_gated_layer_norm(update, gate, gate_row, residual, shift, scale, row, one_plus_scale,
                               eps, y, queue());
  }
  void rms_norm(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine, ConstTensor sine,
                int64_t heads, Tensor y) {
    cuda::rms_norm(x, weight, eps, cosine, sine, heads, y, queue());
  }
  void channel_norm(ConstTensor x, ConstTensor gamma, bool activate, Tensor y) {
    cuda::channel_norm(x, gamma, activate, y, queue());
  }

  void convert(ConstTensor x, Tensor y) { cuda::convert(x, y, queue()); }
  void silu(ConstTensor x, Tensor y) { cuda::silu(x, y, queue()); }
  void gated_gelu(ConstTensor a, ConstTensor b, Tensor y) { cuda::gated_gelu(a, b, y, queue()); }
  void add(ConstTensor x, Tensor y) { cuda::add(x, y, queue()); }
  void linear_combination(std::span<const ConstTensor> x, std::span<const float> weight, Tensor y) {
    cuda::linear_combination(x, weight, y, queue());
  }
  bool all_finite(ConstTensor x) { return cuda::all_finite(x, queue()); }
  void add_rows(ConstTensor rows, ConstTensor table, Tensor sum) {
    cuda::add_rows(rows, table, sum, queue());
  }
  void add_gated(ConstTensor y, ConstTensor gate, const int32_t* gate_row, Tensor residual) {
    cuda::add_gated(y, gate, gate_row, residual, queue());
  }
  void bias_activation(Tensor y, const float* bias, int activation) {
    cuda::bias_activation(y, bias, static_cast<cuda::PointWise>(activation), queue());
  }
  void relative_bias(ConstTensor table, ConstTensor bucket, Tensor bias) {
    cuda::relative_bias(table, bucket, bias, queue());
  }
  void patchify(ConstTensor latent, const PatchGrid& grid, Tensor patches) {
    cuda::patchify(latent, grid, patches, queue());
  }
  void unpatchify(ConstTensor patches, const PatchGrid& grid, Tensor latent) {
    cuda::unpatchify(patches, grid, latent, queue());
  }
};

}  // namespace longtake::testing
