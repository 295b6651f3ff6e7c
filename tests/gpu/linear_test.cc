// Matrix products and linear layers of the GPU against their oracle.
//
// Bounds as in tests/kernels/linear_test.cc: a sum of n products in f32, in any order, is off by at
// most (n + 2) u sum |x w|, bias included. What the GPU adds: a bias of bf16 outputs is bf16 (the
// biases here are); the fused gelu's tanh has a relative error of 2^-11 (PTX, tanh.approx), so its
// result is off by at most |x| 2^-12.
#include "kernels/linear.h"

#include <doctest/doctest.h>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_table.h"
#include "kernels/cuda/linear.h"
#include "kernels/reference/linear.h"
#include "tests/gpu/gpu.h"
#include "tests/kernels/rows.h"

namespace longtake::testing {
namespace {

using Doubles = std::vector<double>;
using Epilogue = cuda::GemmArgs::Epilogue;
using Provider = cuda::Gemm::Provider;

Doubles magnitude(Doubles v) {
  for (double& e : v) e = std::abs(e);
  return v;
}

reference::Activation oracle_of(Activation a) {
  return a == Activation::none   ? reference::Activation::none
         : a == Activation::silu ? reference::Activation::silu
                                 : reference::Activation::gelu_tanh;
}

// A Strided matrix on the GPU; comes back whole.
struct OnGpu {
  OwnedTensor wide;
  int64_t columns;
  OnGpu(Gpu& gpu, const Strided& host)
      : wide(gpu.up(host.wide())), columns(host.wide().dim(1) - 8) {}
  Tensor view() { return wide.view().columns(3, 3 + columns); }
};

bool same_outside(const OwnedTensor& wide, const OwnedTensor& before) {
  for (int64_t row = 0; row < wide.dim(0); ++row)
    for (int64_t i = 0; i < wide.dim(1); ++i)
      if ((i < 3 || i >= wide.dim(1) - 5) && element(wide, row, i) != element(before, row, i))
        return false;
  return true;
}

ConstTensor inside(const OwnedTensor& wide) {
  return wide.view().columns(3, wide.dim(1) - 5);
}

struct Problem {
  int64_t rows, out, in;
  DType compute;
  Strided x;
  OwnedTensor weight, bias;

  Problem(DType compute, int64_t rows, int64_t out, int64_t in, bool with_bias = true)
      : rows(rows),
        out(out),
        in(in),
        compute(compute),
        x(rows, in, 1, compute),
        weight(random_tensor({out, in}, 2, 1, compute)) {
    if (with_bias) bias = random_tensor({out}, 3, 1, DType::bf16);
  }

  Doubles biases() const {
    Doubles b;
    for (int64_t i = 0; bias && i < out; ++i) b.push_back(to_float(bias.as<bf16>()[i]));
    return b;
  }
  // The product without activation, and what an f32 sum of it may be off by.
  Doubles sum(Doubles* bound) const {
    constexpr auto kNone = reference::Activation::none;
    const Doubles xs = x.doubles(), ws = to_doubles(weight), bs = biases();
    *bound = reference::linear(magnitude(xs), magnitude(ws), magnitude(bs), kNone, rows, in, out);
    for (double& b : *bound) b *= kUnit32 * static_cast<double>(in + 2);
    return reference::linear(xs, ws, bs, kNone, rows, in, out);
  }
  Doubles activated(Activation activation, bool fused, Doubles* bound) const {
    Doubles y = sum(bound);
    if (activation == Activation::none) return y;
    for (size_t i = 0; i < y.size(); ++i) {
      const double s = y[i];
      y[i] = reference::activate(oracle_of(activation), s);
      (*bound)[i] = 1.13 * (*bound)[i] +
                    (activation == Activation::silu ? silu_error(s) : gelu_error(s)) +
                    (fused ? std::abs(s) * 0x1p-12 : 0);
    }
    return y;
  }
};

void check_product(Gpu& gpu, const Problem& p, Activation activation, DType y_type) {
  CAPTURE(name(p.compute));
  CAPTURE(name(y_type));
  CAPTURE(p.rows);
  CAPTURE(p.out);
  CAPTURE(p.in);
  CAPTURE(static_cast<int>(activation));
  const Strided before(p.rows, p.out, 9, y_type);
  OnGpu x(gpu, p.x), y(gpu, before);
  const Linear weight(p.weight, p.bias, p.compute, gpu.stream());

  cuda::linear({.x = x.view(), .activation = activation, .y = y.view()}, weight, gpu.stream());

  const bool fused = activation == Activation::gelu_tanh && p.compute == DType::bf16 &&
                     y_type == DType::bf16 && p.bias;
  Doubles bound;
  const Doubles expected = p.activated(activation, fused, &bound);
  const OwnedTensor got = gpu.down(y.wide);
  CHECK(worst_ratio(inside(got), expected, bound) < 1.0);
  CHECK(same_outside(got, before.wide()));
}

void check_residual(Gpu& gpu, const Problem& p, Activation activation, int64_t gates) {
  CAPTURE(name(p.compute));
  CAPTURE(p.rows);
  CAPTURE(p.out);
  CAPTURE(gates);
  CAPTURE(static_cast<int>(activation));
  const Strided before(p.rows, p.out, 11, DType::f32, 4);
  const Strided gate(std::max<int64_t>(gates, 1), p.out, 12, DType::f32, 2);
  OwnedTensor index(DType::i32, {p.rows});
  std::vector<int32_t> gate_row;
  for (int64_t i = 0; gates > 1 && i < p.rows; ++i)
    gate_row.push_back(static_cast<int32_t>((i * 7 + i / 5) % gates));
  std::copy(gate_row.begin(), gate_row.end(), index.as<int32_t>());
  OnGpu x(gpu, p.x), residual(gpu, before), g(gpu, gate);
  OwnedTensor rows = gpu.up(index);
  const Linear weight(p.weight, p.bias, p.compute, gpu.stream());

  LinearArgs args{.x = x.view(), .activation = activation, .residual = residual.view()};
  if (gates > 0) args.gate = g.view();
  if (gates > 1) args.gate_row = rows.as<int32_t>();
  cuda::linear(args, weight, gpu.stream());

  Doubles bound;
  const Doubles y = p.activated(activation, false, &bound), r = before.doubles();
  const Doubles gs = gates > 0 ? gate.doubles() : Doubles(), zeros(y.size(), 0.0);
  const Doubles sum = reference::gated_residual(y, r, gs, gate_row, p.rows, p.out);
  const Doubles addend = reference::gated_residual(y, zeros, gs, gate_row, p.rows, p.out);
  // A gated product is first rounded to bf16 when that is the compute type.
  const bool half = p.compute == DType::bf16 && gates > 0 && activation == Activation::none;
  for (size_t i = 0; i < bound.size(); ++i)
    bound[i] += (half ? kUnit16 : kUnit32) * (std::abs(y[i]) + bound[i]);
  const Doubles scaled = reference::gated_residual(bound, zeros, gs, gate_row, p.rows, p.out);
  // The residual may be added before the bias: one more rounding of its size.
  for (size_t i = 0; i < sum.size(); ++i)
    bound[i] = std::abs(scaled[i]) + 2 * kUnit32 * (std::abs(addend[i]) + std::abs(r[i]));
  const OwnedTensor got = gpu.down(residual.wide);
  CHECK(worst_ratio(inside(got), sum, bound) < 1.0);
  CHECK(same_outside(got, before.wide()));
}

// A product of dense operands on the GPU, as run() leaves it.
OwnedTensor product(Gpu& gpu, const Problem& p, DType out, Provider provider) {
  OwnedTensor x = gpu.up(p.x.wide()), w = gpu.up(p.weight);
  OwnedTensor d(out, {p.rows, p.out}, gpu.stream().device());
  cuda::GemmArgs g;
  g.m = p.rows;
  g.n = p.out;
  g.k = p.in;
  g.a = x.view().columns(3, 3 + p.in).data;
  g.lda = p.in + 8;
  g.w = w.view().data;
  g.ldw = p.in;
  g.in = p.compute;
  g.d = d.view().data;
  g.ldd = p.out;
  g.out = out;
  gpu.queue().gemm().run(g, provider);
  return gpu.down(d);
}

}  // namespace

TEST_CASE("gpu linear agrees with the oracle at every edge") {
  Gpu gpu;
  for (const DType compute : kComputeTypes)
    for (const int64_t rows : {1, 2, 16, 17, 129, 200})
      for (const int64_t out : {1, 3, 64, 65, 130, 1030})
        for (const int64_t in : {1, 4, 12, 64, 96, 300})
          check_product(gpu, Problem(compute, rows, out, in), Activation::none, compute);
}

TEST_CASE("gpu linear: activations in both output types, with and without a bias") {
  Gpu gpu;
  for (const DType compute : kComputeTypes)
    for (const DType y_type : kComputeTypes)
      for (const Activation a : {Activation::none, Activation::gelu_tanh, Activation::silu})
        for (const bool bias : {false, true}) {
          check_product(gpu, Problem(compute, 17, 65, 24, bias), a, y_type);
          check_product(gpu, Problem(compute, 129, 1032, 64, bias), a, y_type);
        }
}

TEST_CASE("gpu linear: gelu apart from the product has no more error than f32") {
  Gpu gpu;
  const Problem p(DType::bf16, 129, 1032, 64);
  const Strided before(p.rows, p.out, 9, DType::bf16);
  OnGpu x(gpu, p.x), y(gpu, before);
  const Linear weight(p.weight, p.bias, p.compute, gpu.stream());

  cuda::fuse_gelu(false);
  cuda::linear({.x = x.view(), .activation = Activation::gelu_tanh, .y = y.view()}, weight,
               gpu.stream());
  cuda::fuse_gelu(true);

  Doubles bound;
  const Doubles expected = p.activated(Activation::gelu_tanh, false, &bound);
  CHECK(worst_ratio(inside(gpu.down(y.wide)), expected, bound) < 1.0);
}

TEST_CASE("gpu linear: a residual is added to, through gates of one or several rows") {
  Gpu gpu;
  for (const DType compute : kComputeTypes)
    for (const int64_t gates : {0, 1, 3}) {
      for (const int64_t rows : {1, 17, 200})
        for (const int64_t out : {1, 63, 128, 1030})
          check_residual(gpu, Problem(compute, rows, out, 96), Activation::none, gates);
      check_residual(gpu, Problem(compute, 40, 65, 24, false), Activation::gelu_tanh, gates);
      check_residual(gpu, Problem(compute, 40, 65, 24), Activation::silu, gates);
    }
}

TEST_CASE("gpu gemm: both providers are within the bound of an f32 sum") {
  Gpu gpu;
  for (const DType compute : kComputeTypes)
    for (const DType out : kComputeTypes)
      for (const Provider provider : {Provider::library, Provider::plain}) {
        const Problem p(compute, 130, 96, 1000, false);
        Doubles bound;
        const Doubles expected = p.sum(&bound);
        CHECK(worst_ratio(product(gpu, p, out, provider), expected, bound) < 1.0);
      }
}

// What carries the whole model must not silently fall back to the plain kernel.
TEST_CASE("gpu gemm: cuBLASLt has the products of a transformer") {
  Gpu gpu;
  OwnedTensor memory(DType::f32, {1 << 20}, gpu.stream().device());
  for (const DType in : kComputeTypes)
    for (const DType out : {DType::f32, in})
      for (const Epilogue e : {Epilogue::none, Epilogue::bias}) {
        cuda::GemmArgs g;
        g.m = 256;
        g.n = g.k = 512;
        g.a = g.w = g.d = memory.view().data;
        g.lda = g.ldw = g.ldd = 512;
        g.in = in;
        g.out = out;
        g.epilogue = e;
        g.bias = e == Epilogue::none ? nullptr : memory.view().data;
        CAPTURE(name(in));
        CAPTURE(name(out));
        CAPTURE(static_cast<int>(e));
        CHECK(gpu.queue().gemm().in_library(g));
        g.accumulate = true;
        CHECK(gpu.queue().gemm().in_library(g));
      }
}

TEST_CASE("gpu gemm: the same bits on every call, tuned or not, and from a table read back") {
  for (const DType compute : kComputeTypes) {
    const Problem p(compute, 1000, 1536, 1536, false);
    cuda::GemmTable& table = cuda::GemmTable::of_process();
    table.clear();
    Gpu first, second;

    const OwnedTensor once = product(first, p, compute, Provider::library);
    const OwnedTensor twice = product(first, p, compute, Provider::library);
    const OwnedTensor elsewhere = product(second, p, compute, Provider::library);
    CHECK(same_bits(once, twice));
    CHECK(same_bits(once, elsewhere));

    cuda::Gemm::tune(true);
    const OwnedTensor tuned = product(first, p, compute, Provider::library);
    cuda::Gemm::tune(false);
    const std::string text = cuda::Gemm::table();
    CHECK(text.find("1000x1536x1536") != std::string::npos);
    table.clear();
    cuda::Gemm::load_table(text);
    CHECK(cuda::Gemm::table() == text);
    Gpu third;
    CHECK(same_bits(tuned, product(third, p, compute, Provider::library)));
    table.clear();
  }
}

TEST_CASE("gpu gemm: timing leaves an accumulated result alone") {
  Gpu gpu;
  const Problem p(DType::bf16, 64, 96, 128);
  cuda::Gemm::tune(true);
  check_residual(gpu, p, Activation::none, 0);
  cuda::Gemm::tune(false);
  cuda::GemmTable::of_process().clear();
}

}  // namespace longtake::testing
