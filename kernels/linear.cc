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
  LT_CHECK(compute == DType::f32 || compute == DType::bf16, "linear: cannot compute in {}",
           name(compute));
  LT_CHECK(!bias || bias.numel() == out_, "linear: expected a bias [{}], found {}", out_,
           bias.shape.text());
  if (stream.on_gpu()) {
    packed_ = cuda::pack_linear(weight, bias, compute, stream);
    return;
  }
  packed_ = cpu::pack_linear(weight, compute, stream);
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
