#include "kernels/cuda/linear.h"

#include <algorithm>
#include <atomic>

#include "kernels/copy.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/norm.h"

namespace longtake::cuda {

namespace {

using Epilogue = GemmArgs::Epilogue;

constexpr int kScratchSlot = 2;  // of the stream
// What is computed by way of scratch memory goes in parts of about this size.
constexpr int64_t kScratchBytes = int64_t{256} << 20;

std::atomic<bool> gelu_fused{true};

OwnedTensor on_device(ConstTensor x, DType dtype, StreamRef stream) {
  if (x.dtype == dtype) return to_device(x, stream);
  OwnedTensor out(dtype, x.shape, stream.device());
  if (x.device.type == DeviceType::cuda) {
    convert(x, out, stream.cuda());
  } else {
    const OwnedTensor stored = to_device(x, stream);
    convert(stored, out, stream.cuda());
  }
  return out;
}

PointWise point_wise(Activation a) {
  return a == Activation::none   ? PointWise::none
         : a == Activation::silu ? PointWise::silu
                                 : PointWise::gelu_tanh;
}

// One call on some of its rows.
struct LinearRun {
  const PackedLinear& packed;
  Activation activation;
  StreamRef ref;
  Stream& stream;

  // d = x W^T + b, or activated by the product's epilogue, or added to d.
  GemmArgs product(ConstTensor x, Tensor d, Epilogue epilogue, bool accumulate) const;
  void sum(ConstTensor x, Tensor d, bool accumulate = false) const;
  bool fused(ConstTensor x, Tensor y) const;
  void activated(ConstTensor x, Tensor y) const;  // y f32, or no activation
};

GemmArgs LinearRun::product(ConstTensor x, Tensor d, Epilogue epilogue, bool accumulate) const {
  GemmArgs g;
  g.m = x.dim(0);
  g.n = packed.weight.dim(0);
  g.k = packed.weight.dim(1);
  g.a = x.data;
  g.lda = x.row_stride;
  g.w = packed.weight.view().data;
  g.ldw = g.k;
  g.in = x.dtype;
  g.d = d.data;
  g.ldd = d.row_stride;
  g.out = d.dtype;
  g.accumulate = accumulate;
  g.epilogue = epilogue;
  g.bias = epilogue == Epilogue::none ? nullptr : packed.bias(d.dtype);
  return g;
}

void LinearRun::sum(ConstTensor x, Tensor d, bool accumulate) const {
  Gemm& gemm = stream.gemm();
  const GemmArgs plain = product(x, d, Epilogue::none, accumulate);
  if (!packed.bias_f32) return gemm.run(plain);
  const GemmArgs biased = product(x, d, Epilogue::bias, accumulate);
  // f32 can take the bias afterwards without another rounding that would show.
  if (d.dtype != DType::f32 || gemm.in_library(biased) || !gemm.in_library(plain))
    return gemm.run(biased);
  gemm.run(plain);
  bias_activation(d, packed.bias_f32.as<float>(), PointWise::none, stream);
}

bool LinearRun::fused(ConstTensor x, Tensor y) const {
  return activation == Activation::gelu_tanh && gelu_fused && packed.bias_f32 &&
         x.dtype == DType::bf16 && y.dtype == DType::bf16 &&
         stream.gemm().in_library(product(x, y, Epilogue::bias_gelu, false));
}

void LinearRun::activated(ConstTensor x, Tensor y) const {
  sum(x, y);
  if (activation != Activation::none) bias_activation(y, nullptr, point_wise(activation), stream);
}

// Is y f32 activated in place, or written by the product alone?
bool direct(const LinearArgs& args, const Linear& weight) {
  if (args.y.dtype == DType::f32) return true;
  return args.activation == Activation::none && weight.compute() == DType::bf16;
}

// y bf16 from an f32 scratch: activations see the unrounded sum.
void by_scratch(const LinearArgs& args, const LinearRun& run) {
  const int64_t rows = args.x.dim(0), out = args.y.dim(1);
  const int64_t part = std::max<int64_t>(1, kScratchBytes / (out * 6));
  for (int64_t begin = 0; begin < rows; begin += part) {
    const int64_t end = std::min(rows, begin + part), n = end - begin;
    auto* memory =
        static_cast<char*>(run.stream.scratch(static_cast<size_t>(n * out) * 6, kScratchSlot));
    const Tensor wide(memory, DType::f32, {n, out}, args.y.device);
    run.activated(args.x.rows(begin, end), wide);
    const Tensor y = args.y.rows(begin, end);
    if (y.dense()) {
      convert(wide, y, run.stream);
      continue;
    }
    const Tensor dense(memory + n * out * 4, DType::bf16, {n, out}, args.y.device);
    convert(wide, dense, run.stream);
    copy(dense, y, run.ref);
  }
}

// Rows [begin, end) of the residual and, if asked for, of its norm, from their part of the product.
void add_part(const LinearArgs& args, ConstTensor y, int64_t begin, int64_t end, Stream& stream) {
  const int32_t* gate_row = args.gate_row ? args.gate_row + begin : nullptr;
  const Tensor residual = args.residual.rows(begin, end);
  if (!args.next) return add_gated(y, args.gate, gate_row, residual, stream);
  const LayerNorm& n = *args.next;
  const Shape row{n.modulated ? n.shift.dim(0) : 1, residual.dim(1)};
  const bool indexed = n.modulated && row[0] > 1;
  add_gated_layer_norm(y, args.gate, gate_row, residual, n.shift.reshape(row), n.scale.reshape(row),
                       indexed ? n.modulation_row + begin : nullptr, n.modulated, n.eps,
                       args.normed.rows(begin, end), stream);
}

// residual += gate * y, y rounded to bf16 when that is the compute dtype.
void to_residual(const LinearArgs& args, const LinearRun& run) {
  const int64_t rows = args.x.dim(0), out = args.residual.dim(1);
  const bool plain = args.activation == Activation::none;
  const DType dtype = plain ? args.x.dtype : DType::f32;
  const int64_t row_bytes = out * static_cast<int64_t>(size_bytes(dtype));
  const int64_t part = std::max<int64_t>(1, kScratchBytes / row_bytes);
  for (int64_t begin = 0; begin < rows; begin += part) {
    const int64_t end = std::min(rows, begin + part), n = end - begin;
    const Tensor y(run.stream.scratch(static_cast<size_t>(n * row_bytes), kScratchSlot), dtype,
                   {n, out}, args.residual.device);
    run.activated(args.x.rows(begin, end), y);
    add_part(args, y, begin, end, run.stream);
  }
}

}  // namespace

size_t PackedLinear::bytes() const {
  return weight.bytes() + (bias_f32 ? bias_f32.bytes() : 0) + (bias_bf16 ? bias_bf16.bytes() : 0);
}

const void* PackedLinear::bias(DType dtype) const {
  return dtype == DType::f32 ? bias_f32.view().data : bias_bf16.view().data;
}

std::unique_ptr<Linear::Packed> pack_linear(ConstTensor weight, ConstTensor bias, DType compute,
                                            StreamRef stream) {
  auto packed = std::make_unique<PackedLinear>();
  packed->weight = on_device(weight, compute, stream);
  if (bias) {
    packed->bias_f32 = on_device(bias, DType::f32, stream);
    if (compute == DType::bf16) packed->bias_bf16 = on_device(bias, DType::bf16, stream);
  }
  return packed;
}

void linear(const LinearArgs& args, const Linear& weight, StreamRef stream) {
  if (args.x.dim(0) == 0) return;
  const auto& packed = static_cast<const PackedLinear&>(weight.packed());
  const LinearRun run{packed, args.activation, stream, stream.cuda()};
  if (args.residual) {
    // Without gate and activation the product itself adds to the residual.
    if (args.gate || args.activation != Activation::none) return to_residual(args, run);
    run.sum(args.x, args.residual, true);
    if (args.next) longtake::layer_norm(args.residual, *args.next, args.normed, stream);
  } else if (run.fused(args.x, args.y)) {
    run.stream.gemm().run(run.product(args.x, args.y, Epilogue::bias_gelu, false));
  } else if (direct(args, weight)) {
    run.activated(args.x, args.y);
  } else {
    by_scratch(args, run);
  }
}

void fuse_gelu(bool on) {
  gelu_fused = on;
}

}  // namespace longtake::cuda
