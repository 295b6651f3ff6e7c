#include "kernels/linear.h"

#include "kernels/base/error.h"
#include "kernels/copy.h"
#include "kernels/cpu/linear.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/range.h"
#include "kernels/elementwise.h"

namespace longtake {

Linear::Linear() = default;
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

Linear::Linear(ConstTensor weight, ConstTensor bias, DType compute, StreamRef stream)
    : in_(weight.dim(1)), out_(weight.dim(0)), compute_(compute) {
  LT_CHECK(weight.rank() == 2 && weight.dense(),
           "linear: expected a dense weight [out, in], found {}", weight.shape.text());
  check(bias);
  if (stream.on_gpu()) {
    packed_ = cuda::pack_linear(weight, bias, compute, stream);
    return;
  }
  const size_t row_bytes = static_cast<size_t>(in_) * size_bytes(weight.dtype);
  const auto row = [&](int64_t first, int64_t, void*) -> const void* {
    return static_cast<const char*>(weight.data) + static_cast<size_t>(first) * row_bytes;
  };
  pack({out_, in_, weight.dtype, row}, bias, stream);
}

Linear::Linear(const RowSource& weight, ConstTensor bias, DType compute, StreamRef stream)
    : in_(weight.columns), out_(weight.rows), compute_(compute) {
  LT_CHECK(!stream.on_gpu(), "linear: rows are packed on the host only");
  check(bias);
  pack(weight, bias, stream);
}

void Linear::check(ConstTensor bias) const {
  LT_CHECK(compute_ == DType::f32 || compute_ == DType::bf16, "linear: cannot compute in {}",
           name(compute_));
  LT_CHECK(!bias || bias.numel() == out_, "linear: expected a bias [{}], found {}", out_,
           bias.shape.text());
}

void Linear::pack(const RowSource& weight, ConstTensor bias, StreamRef stream) {
  packed_ = cpu::pack_linear(weight, compute_, stream);
  if (!bias) return;
  bias_ = OwnedTensor(DType::f32, {out_});
  convert(bias, bias_, stream);
}

size_t Linear::bytes() const {
  return (packed_ ? packed_->bytes() : 0) + (bias_ ? bias_.bytes() : 0);
}

const float* Linear::bias() const {
  return bias_ ? bias_.as<float>() : nullptr;
}

void linear(const LinearArgs& args, const Linear& weight, StreamRef stream) {
  const ConstTensor& x = args.x;
  LT_CHECK(x.rank() == 2 && x.dim(1) == weight.in() && x.dtype == weight.compute(),
           "linear: expected x {} [rows, {}], found {} {}", name(weight.compute()), weight.in(),
           name(x.dtype), x.shape.text());
  LT_CHECK(!args.y != !args.residual, "linear: exactly one of y and residual is written");
  const Tensor& out = args.y ? args.y : args.residual;
  LT_CHECK(out.shape == Shape({x.dim(0), weight.out()}),
           "linear: expected an output [{}, {}], found {}", x.dim(0), weight.out(),
           out.shape.text());
  LT_CHECK(out.dtype == DType::f32 || (args.y && out.dtype == DType::bf16),
           "linear: the output cannot be {}", name(out.dtype));
  if (args.gate) {
    LT_CHECK(args.residual && args.gate.rank() == 2 && args.gate.dim(1) == weight.out() &&
                 args.gate.dtype == DType::f32 && (args.gate.dim(0) == 1 || args.gate_row),
             "linear: expected a gate f32 [n, {}] on a residual, found {}", weight.out(),
             args.gate.shape.text());
  }
  LT_CHECK(!args.next || args.residual, "linear: only a residual is followed by a norm");
  const TimedWork timed(stream, &WorkClock::linear_s);
  if (stream.on_gpu()) {
    const cuda::Range range("linear");
    return cuda::linear(args, weight, stream);
  }
  cpu::linear(args, weight, stream);
  if (args.next) layer_norm(args.residual, *args.next, args.normed, stream);
}

}  // namespace longtake
