#include "kernels/cuda/norm.h"

#include "kernels/cuda/check.h"
#include "kernels/cuda/norm_start.h"
#include "kernels/cuda/norm_views.h"
#include "kernels/cuda/range.h"

namespace longtake::cuda {

namespace {

template <class Args>
void run(const Args& args, Stream& stream) {
  const Range range("norm");
  start(args, stream.handle());
  LT_CUDA(cudaGetLastError());
}

}  // namespace

void layer_norm(ConstTensor x, ConstTensor shift, ConstTensor scale, const int32_t* modulation_row,
                bool one_plus_scale, float eps, Tensor y, Stream& stream) {
  if (x.numel() == 0) return;
  run(layer_norm_args(x, shift, scale, modulation_row, one_plus_scale, eps, y), stream);
}

void add_gated_layer_norm(ConstTensor update, ConstTensor gate, const int32_t* gate_row,
                          Tensor residual, ConstTensor shift, ConstTensor scale,
                          const int32_t* modulation_row, bool one_plus_scale, float eps, Tensor y,
                          Stream& stream) {
  if (residual.numel() == 0) return;
  run(gated_layer_norm_args(
          update, gate, gate_row, residual,
          layer_norm_args(residual, shift, scale, modulation_row, one_plus_scale, eps, y)),
      stream);
}

void rms_norm(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine, ConstTensor sine,
              int64_t heads, Tensor y, Stream& stream) {
  if (x.numel() == 0) return;
  run(rms_norm_args(x, weight, eps, cosine, sine, heads, y), stream);
}

void channel_norm(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, Stream& stream) {
  if (x.numel() == 0) return;
  run(channel_norm_args(x, gamma, activate, y), stream);
}

}  // namespace longtake::cuda
