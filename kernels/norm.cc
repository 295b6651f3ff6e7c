#include "kernels/norm.h"

#include "kernels/base/error.h"
#include "kernels/cpu/norm.h"
#include "kernels/cuda/norm.h"

namespace longtake {

namespace {

void check_rows(const char* op, ConstTensor x, ConstTensor y) {
  LT_CHECK(x.rank() == 2 && y.shape == x.shape,
           "{}: expected x and y of one shape [rows, dim], found {} and {}", op, x.shape.text(),
           y.shape.text());
  LT_CHECK(y.dtype == DType::f32 || y.dtype == DType::bf16, "{}: y cannot be {}", op,
           name(y.dtype));
  LT_CHECK(x.dtype == DType::f32 || x.dtype == DType::bf16, "{}: x cannot be {}", op,
           name(x.dtype));
}

void check_vector(const char* op, const char* what, ConstTensor v, int64_t dim) {
  LT_CHECK(v.dtype == DType::f32 && v.numel() == dim && v.dense(),
           "{}: expected {} f32 [{}], found {} {}", op, what, dim, name(v.dtype), v.shape.text());
}

}  // namespace

void layer_norm_modulate(ConstTensor x, ConstTensor shift, ConstTensor scale,
                         const int32_t* modulation_row, float eps, Tensor y, StreamRef stream) {
  constexpr const char* kOp = "layer_norm_modulate";
  check_rows(kOp, x, y);
  LT_CHECK(x.dtype == DType::f32, "{}: x must be f32, found {}", kOp, name(x.dtype));
  LT_CHECK(shift.rank() == 2 && shift.shape == scale.shape && shift.dim(1) == x.dim(1) &&
               shift.dtype == DType::f32 && scale.dtype == DType::f32 &&
               shift.row_stride == scale.row_stride,
           "{}: expected shift and scale f32 [n, {}], found {} and {}", kOp, x.dim(1),
           shift.shape.text(), scale.shape.text());
  LT_CHECK(shift.dim(0) == 1 || modulation_row, "{}: {} modulation rows need an index per row", kOp,
           shift.dim(0));
  if (stream.on_gpu())
    return cuda::layer_norm(x, shift, scale, shift.dim(0) > 1 ? modulation_row : nullptr,
                            /*one_plus_scale=*/true, eps, y, stream.cuda());
  cpu::layer_norm({x, y, shift.as<float>(), scale.as<float>(), shift.row_stride, modulation_row,
                   /*one_plus_scale=*/true, eps},
                  stream);
}

void layer_norm_affine(ConstTensor x, ConstTensor weight, ConstTensor bias, float eps, Tensor y,
                       StreamRef stream) {
  constexpr const char* kOp = "layer_norm_affine";
  check_rows(kOp, x, y);
  LT_CHECK(x.dtype == DType::f32, "{}: x must be f32, found {}", kOp, name(x.dtype));
  check_vector(kOp, "weight", weight, x.dim(1));
  check_vector(kOp, "bias", bias, x.dim(1));
  const Shape row{1, x.dim(1)};
  if (stream.on_gpu())
    return cuda::layer_norm(x, bias.reshape(row), weight.reshape(row), nullptr,
                            /*one_plus_scale=*/false, eps, y, stream.cuda());
  cpu::layer_norm(
      {x, y, bias.as<float>(), weight.as<float>(), 0, nullptr, /*one_plus_scale=*/false, eps},
      stream);
}

void layer_norm(ConstTensor x, const LayerNorm& norm, Tensor y, StreamRef stream) {
  if (norm.modulated)
    layer_norm_modulate(x, norm.shift, norm.scale, norm.modulation_row, norm.eps, y, stream);
  else
    layer_norm_affine(x, norm.scale, norm.shift, norm.eps, y, stream);
}

void rms_norm(ConstTensor x, ConstTensor weight, float eps, Tensor y, StreamRef stream) {
  check_rows("rms_norm", x, y);
  check_vector("rms_norm", "weight", weight, x.dim(1));
  if (stream.on_gpu()) return cuda::rms_norm(x, weight, eps, {}, {}, 1, y, stream.cuda());
  cpu::rms_norm(x, weight, eps, {}, {}, 1, y, stream);
}

void rms_norm_rope(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine,
                   ConstTensor sine, int64_t heads, Tensor y, StreamRef stream) {
  constexpr const char* kOp = "rms_norm_rope";
  check_rows(kOp, x, y);
  check_vector(kOp, "weight", weight, x.dim(1));
  LT_CHECK(heads >= 1 && x.dim(1) % (2 * heads) == 0, "{}: {} channels cannot be {} heads of pairs",
           kOp, x.dim(1), heads);
  LT_CHECK(cosine.rank() == 2 && cosine.shape == sine.shape && cosine.dim(0) == x.dim(0) &&
               cosine.dim(1) == x.dim(1) / heads / 2 && cosine.row_stride == sine.row_stride &&
               cosine.dtype == DType::f32 && sine.dtype == DType::f32,
           "{}: expected cosine and sine f32 [{}, {}], found {} and {}", kOp, x.dim(0),
           x.dim(1) / heads / 2, cosine.shape.text(), sine.shape.text());
  if (stream.on_gpu()) return cuda::rms_norm(x, weight, eps, cosine, sine, heads, y, stream.cuda());
  cpu::rms_norm(x, weight, eps, cosine, sine, heads, y, stream);
}

void channel_norm_silu(ConstTensor x, ConstTensor gamma, bool activate, Tensor y,
                       StreamRef stream) {
  check_rows("channel_norm_silu", x, y);
  LT_CHECK(x.dense() && y.dense(), "channel_norm_silu: rows must be dense");
  check_vector("channel_norm_silu", "gamma", gamma, x.dim(1));
  if (stream.on_gpu()) return cuda::channel_norm(x, gamma, activate, y, stream.cuda());
  cpu::channel_norm(x, gamma, activate, y, stream);
}

}  // namespace longtake
