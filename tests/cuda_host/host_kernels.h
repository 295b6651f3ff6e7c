// The kernels of kernels/cuda/*.cuh on the host, behind the functions that the GPU has: what a
// check (norm_checks.h, elementwise_checks.h) runs on. tests/gpu has the same class for a GPU.
#pragma once

#include "tests/support/cuda_shim.h"
// The shim comes first.
#include "kernels/copy.h"
#include "kernels/cuda/elementwise_launch.cuh"
#include "kernels/cuda/elementwise_views.h"
#include "kernels/cuda/norm_launch.cuh"
#include "kernels/cuda/norm_views.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {

struct HostLaunch {
  template <class... Params, class... Args>
  void operator()(void (*kernel)(Params...), unsigned blocks, int threads, Args... args) const {
    run_on_host({blocks, 1, 1}, {static_cast<unsigned>(threads), 1, 1}, 0,
                [&] { kernel(args...); });
  }
};

class HostKernels {
 public:
  static constexpr bool on_gpu = false;

  OwnedTensor up(ConstTensor x) { return down(x); }
  OwnedTensor down(ConstTensor x) {
    OwnedTensor out(x.dtype, x.shape);
    copy(x, out, test_stream());
    return out;
  }

  void layer_norm(ConstTensor x, ConstTensor shift, ConstTensor scale, const int32_t* row,
                  bool one_plus_scale, float eps, Tensor y) {
    cuda::launch_layer_norm(cuda::layer_norm_args(x, shift, scale, row, one_plus_scale, eps, y),
                            HostLaunch{});
  }
  void add_gated_layer_norm(ConstTensor update, ConstTensor gate, const int32_t* gate_row,
                            Tensor residual, ConstTensor shift, ConstTensor scale,
                            const int32_t* row, bool one_plus_scale, float eps, Tensor y) {
    cuda::launch_gated_layer_norm(
        cuda::gated_layer_norm_args(
            update, gate, gate_row, residual,
            cuda::layer_norm_args(residual, shift, scale, row, one_plus_scale, eps, y)),
        HostLaunch{});
  }
  void rms_norm(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine, ConstTensor sine,
                int64_t heads, Tensor y) {
    cuda::launch_rms_norm(cuda::rms_norm_args(x, weight, eps, cosine, sine, heads, y),
                          HostLaunch{});
  }
  void channel_norm(ConstTensor x, ConstTensor gamma, bool activate, Tensor y) {
    cuda::launch_channel_norm(cuda::channel_norm_args(x, gamma, activate, y), HostLaunch{});
  }

  void convert(ConstTensor x, Tensor y) { run(cuda::convert_args(x, y)); }
  void silu(ConstTensor x, Tensor y) { run(cuda::silu_args(x, y)); }
  void gated_gelu(ConstTensor a, ConstTensor b, Tensor y) { run(cuda::gated_gelu_args(a, b, y)); }
  void add(ConstTensor x, Tensor y) { run(cuda::add_args(x, y)); }
  void linear_combination(std::span<const ConstTensor> x, std::span<const float> weight, Tensor y) {
    run(cuda::linear_combination_args(x, weight, y));
  }
  bool all_finite(ConstTensor x) {
    int32_t flag = 0;
    run(cuda::NotFiniteArgs{x.data, x.dtype, x.numel(), &flag});
    return flag == 0;
  }
  void add_rows(ConstTensor rows, ConstTensor table, Tensor sum) {
    run(cuda::add_rows_args(rows, table, sum));
  }
  void add_gated(ConstTensor y, ConstTensor gate, const int32_t* gate_row, Tensor residual) {
    run(cuda::add_gated_args(y, gate, gate_row, residual));
  }
  void bias_activation(Tensor y, const float* bias, int activation) {
    run(cuda::bias_activation_args(y, bias, activation));
  }
  void relative_bias(ConstTensor table, ConstTensor bucket, Tensor bias) {
    run(cuda::relative_bias_args(table, bucket, bias));
  }
  void patchify(ConstTensor latent, const PatchGrid& grid, Tensor patches) {
    cuda::launch_patchify(
        cuda::patch_args(latent, grid, latent.dim(0), patches.row_stride, patches), HostLaunch{});
  }
  void unpatchify(ConstTensor patches, const PatchGrid& grid, Tensor latent) {
    cuda::launch_unpatchify(
        cuda::patch_args(patches, grid, latent.dim(0), patches.row_stride, latent), HostLaunch{});
  }

 private:
  template <class Args>
  void run(const Args& args) {
    cuda::launch_op(args, HostLaunch{});
  }
};

}  // namespace longtake::testing
