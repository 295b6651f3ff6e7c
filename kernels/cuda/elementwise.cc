#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/solver_step_args.h"

#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise_start.h"
#include "kernels/cuda/elementwise_views.h"

namespace longtake::cuda {

namespace {

template <class Args>
void run(const Args& args, Stream& stream) {
  start(args, stream.handle());
  LT_CUDA(cudaGetLastError());
}

}  // namespace

void convert(ConstTensor x, Tensor y, Stream& stream) {
  if (x.numel() == 0) return;
  if (x.dtype != y.dtype) return run(convert_args(x, y), stream);
  LT_CUDA(cudaMemcpyAsync(y.data, x.data, x.bytes(), cudaMemcpyDeviceToDevice, stream.handle()));
}

void silu(ConstTensor x, Tensor y, Stream& stream) {
  if (x.numel() > 0) run(silu_args(x, y), stream);
}

void gated_gelu(ConstTensor a, ConstTensor b, Tensor y, Stream& stream) {
  if (a.numel() > 0) run(gated_gelu_args(a, b, y), stream);
}

void add(ConstTensor x, Tensor y, Stream& stream) {
  if (x.numel() > 0) run(add_args(x, y), stream);
}

void linear_combination(std::span<const ConstTensor> x, std::span<const float> weight, Tensor y,
                        Stream& stream) {
  if (y.numel() > 0) run(linear_combination_args(x, weight, y), stream);
}

bool all_finite(ConstTensor x, Stream& stream) {
  const bool floating = x.dtype == DType::f32 || x.dtype == DType::bf16 || x.dtype == DType::f16 ||
                        x.dtype == DType::f64;
  if (!floating || x.numel() == 0) return true;
  auto* flag = static_cast<int32_t*>(stream.scratch(sizeof(int32_t)));
  int32_t found = 0;
  LT_CUDA(cudaMemsetAsync(flag, 0, sizeof(int32_t), stream.handle()));
  run(NotFiniteArgs{x.data, x.dtype, x.numel(), flag}, stream);
  LT_CUDA(cudaMemcpyAsync(&found, flag, sizeof(int32_t), cudaMemcpyDeviceToHost, stream.handle()));
  stream.synchronize();
  return found == 0;
}

void add_rows(ConstTensor rows, ConstTensor table, Tensor sum, Stream& stream) {
  if (rows.numel() > 0) run(add_rows_args(rows, table, sum), stream);
}

void add_gated(ConstTensor y, ConstTensor gate, const int32_t* gate_row, Tensor residual,
               Stream& stream) {
  if (y.numel() > 0) run(add_gated_args(y, gate, gate_row, residual), stream);
}

void bias_activation(Tensor y, const float* bias, PointWise activation, Stream& stream) {
  if (y.numel() > 0) run(bias_activation_args(y, bias, static_cast<int>(activation)), stream);
}

void relative_bias(ConstTensor table, ConstTensor bucket, Tensor bias, Stream& stream) {
  if (bias.numel() > 0) run(relative_bias_args(table, bucket, bias), stream);
}

void patchify(ConstTensor latent, const PatchGrid& grid, Tensor patches, Stream& stream) {
  if (latent.numel() == 0) return;
  start_patchify(patch_args(latent, grid, latent.dim(0), patches.row_stride, patches),
                 stream.handle());
  LT_CUDA(cudaGetLastError());
}

void unpatchify(ConstTensor patches, const PatchGrid& grid, Tensor latent, Stream& stream) {
  if (latent.numel() == 0) return;
  start_unpatchify(patch_args(patches, grid, latent.dim(0), patches.row_stride, latent),
                   stream.handle());
  LT_CUDA(cudaGetLastError());
}

void solver_step(const SolverStepArgs& args, Stream& stream) {
  const SolverStepView view = view_of(args);
  if (view.n > 0) start(view, stream.handle());
}

}  // namespace longtake::cuda
