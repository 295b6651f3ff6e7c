// Convolutions of the GPU against their oracle: a sum of n products in f32 is off by at most
// (n + 2) u sum |x w|, in any order, bias included. For bf16 the operands are bf16 on both sides.
#include <doctest/doctest.h>

#include "kernels/cuda/conv.h"
#include "kernels/cuda/dnn.h"
#include "kernels/elementwise.h"
#include "kernels/reference/conv.h"
#include "tests/gpu/gpu.h"
#include "tests/kernels/rows.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {
namespace {

using Doubles = std::vector<double>;

Doubles magnitude(Doubles v) {
  for (double& e : v) e = std::abs(e);
  return v;
}

// f32 numbers that are bf16 ones when that is the compute type.
OwnedTensor values(Shape shape, uint64_t seed, DType compute) {
  OwnedTensor out = random_tensor(shape, seed);
  for (int64_t i = 0; compute == DType::bf16 && i < out.numel(); ++i)
    out.as<float>()[i] = to_float(to_bf16(out.as<float>()[i]));
  return out;
}

OwnedTensor in_type(const OwnedTensor& x, DType dtype) {
  OwnedTensor out(dtype, x.shape());
  convert(x, out, host_stream());
  return out;
}

struct Problem {
  reference::ConvShape s;
  DType compute;
  OwnedTensor x, weight, bias;

  Problem(const reference::ConvShape& s, DType compute, bool with_bias)
      : s(s),
        compute(compute),
        x(values({s.frames, s.height, s.width, s.in}, 1, compute)),
        weight(values({s.out, s.in, s.kt, s.kh, s.kw}, 2, compute)) {
    if (with_bias) bias = random_tensor({s.out}, 3);
  }
  Doubles biases() const { return bias ? to_doubles(bias) : Doubles(); }
  double unit() const { return kUnit32 * static_cast<double>(s.in * s.kt * s.kh * s.kw + 2); }
};

// All frames through the causal convolution; what is in front of the first one is empty. Frames are
// bf16 or f32 with the same values.
void check_causal(Gpu& gpu, const Problem& p, bool accumulate, DType frame_type = DType::f32,
                  cuda::ConvProvider provider = cuda::ConvProvider::automatic) {
  const reference::ConvShape& s = p.s;
  CAPTURE(name(p.compute));
  CAPTURE(name(frame_type));
  CAPTURE(cuda::name(provider));
  CAPTURE(s.height);
  CAPTURE(s.width);
  CAPTURE(s.in);
  CAPTURE(s.out);
  CAPTURE(s.kt);
  CAPTURE(s.kh);
  CAPTURE(accumulate);
  const OwnedTensor before = random_tensor({s.frames, s.height, s.width, s.out}, 4, 2);
  const OwnedTensor x = gpu.up(in_type(p.x, frame_type));
  OwnedTensor y = gpu.up(before);
  const auto packed = cuda::pack_conv(p.weight, p.bias, p.compute, gpu.stream());
  const auto& weight = static_cast<const cuda::PackedConv&>(*packed);

  for (int64_t t = 0; t < s.frames; ++t) {
    std::vector<ConstTensor> frames;
    for (int64_t i = t - s.kt + 1; i <= t; ++i)
      frames.push_back(i < 0 ? ConstTensor{}
                             : x.view().rows(i, i + 1).reshape({s.height, s.width, s.in}));
    const Tensor to = y.view().rows(t, t + 1).reshape({s.height, s.width, s.out});
    cuda::conv(frames, weight, {s.kt, s.kh, s.kw, 1}, {s.kh / 2, s.kh / 2, s.kw / 2, s.kw / 2},
               accumulate, to, gpu.stream(), provider);
  }

  const Doubles xs = to_doubles(p.x), ws = to_doubles(p.weight), bs = p.biases();
  Doubles expected = reference::causal_conv3d(xs, ws, bs, s);
  Doubles bound = reference::causal_conv3d(magnitude(xs), magnitude(ws), magnitude(bs), s);
  const Doubles old = to_doubles(before);
  for (size_t i = 0; i < bound.size(); ++i) {
    bound[i] *= p.unit();
    if (!accumulate) continue;
    expected[i] += old[i];
    bound[i] += 2 * kUnit32 * std::abs(old[i]);  // it may be added before the bias
  }
  CHECK(worst_ratio(gpu.down(y), expected, bound) < 1.0);
}

}  // namespace

TEST_CASE("gpu conv agrees with the oracle, for channels of every alignment") {
  Gpu gpu;
  for (const DType compute : kComputeTypes)
    for (const int64_t in : {1, 3, 4, 12, 16, 40})
      for (const int64_t out : {1, 3, 16, 33}) {
        check_causal(gpu, Problem({3, 5, 7, in, out, 3, 3, 3}, compute, true), false);
        check_causal(gpu, Problem({2, 1, 9, in, out, 1, 3, 3}, compute, false), true);
        check_causal(gpu, Problem({2, 6, 1, in, out, 3, 1, 1}, compute, true), true);
        check_causal(gpu, Problem({1, 4, 8, in, out, 1, 1, 1}, compute, true), false);
        check_causal(gpu, Problem({1, 4, 8, in, out, 1, 1, 1}, compute, false), true);
      }
}

TEST_CASE("gpu conv to few channels agrees with the oracle by each provider") {
  Gpu gpu;
  for (const auto provider : {cuda::ConvProvider::rows, cuda::ConvProvider::direct})
    for (const DType frames : kComputeTypes)
      for (const DType compute : kComputeTypes)
        for (const int64_t in : {3, 8, 20, 96})
          for (const int64_t out : {1, 3, 4, 12, 16}) {
            if (frames == DType::bf16 && compute == DType::f32) continue;
            check_causal(gpu, Problem({3, 9, 70, in, out, 3, 3, 3}, compute, true), false, frames,
                         provider);
            check_causal(gpu, Problem({1, 17, 64, in, out, 1, 3, 3}, compute, false), true, frames,
                         provider);
          }
}

TEST_CASE("gpu conv by cudnn agrees with the oracle where cuDNN takes it") {
  Gpu gpu;
  int done = 0, asked = 0;
  std::string why = gpu.queue().dnn().why_not();
  const auto check = [&](const reference::ConvShape& s, bool bias, bool accumulate, DType frames) {
    ++asked;
    try {
      check_causal(gpu, Problem(s, DType::bf16, bias), accumulate, frames,
                   cuda::ConvProvider::cudnn);
      ++done;
    } catch (const Error& error) {
      why = error.what();
    }
  };
  for (const DType frames : kComputeTypes)
    for (const int64_t in : {8, 16, 96})
      for (const int64_t out : {3, 8, 96, 136}) {
        check({3, 9, 14, in, out, 3, 3, 3}, true, false, frames);
        check({3, 8, 8, in, out, 3, 3, 3}, true, true, frames);
        check({2, 17, 70, in, out, 1, 3, 3}, false, true, frames);
        check({2, 6, 5, in, out, 3, 1, 1}, true, false, frames);
        check({1, 6, 5, in, out, 1, 1, 1}, true, false, frames);
      }
  MESSAGE("cuDNN took ", done, " of ", asked, "; ", why);
  CHECK((gpu.queue().dnn().available() || done == 0));
  CHECK((done == asked || !why.empty()));
}

TEST_CASE("gpu conv by rows agrees with the oracle where cuDNN would be taken") {
  Gpu gpu;
  for (const DType frames : kComputeTypes)
    for (const int64_t in : {8, 16, 40})
      for (const int64_t out : {33, 96}) {
        check_causal(gpu, Problem({3, 5, 7, in, out, 3, 3, 3}, DType::bf16, true), false, frames,
                     cuda::ConvProvider::rows);
        check_causal(gpu, Problem({2, 6, 5, in, out, 3, 1, 1}, DType::bf16, true), true, frames,
                     cuda::ConvProvider::rows);
      }
}

// Sums at an address that is no multiple of 16 bytes are the same ones.
TEST_CASE("gpu conv chooses the same provider on every call with one shape") {
  Gpu gpu;
  const Problem p({1, 9, 13, 16, 40, 1, 3, 3}, DType::bf16, true);
  const OwnedTensor x = gpu.up(in_type(p.x, DType::bf16));
  const ConstTensor frame = x.view().reshape({9, 13, 16});
  const auto packed = cuda::pack_conv(p.weight, p.bias, DType::bf16, gpu.stream());
  const auto& weight = static_cast<const cuda::PackedConv&>(*packed);
  const auto run = [&](int64_t offset, cuda::ConvProvider provider) {
    OwnedTensor wide(DType::f32, {9 * 13 * 40 + 4}, gpu.stream().device());
    const Tensor to(wide.as<float>() + offset, DType::f32, Shape{9, 13, 40}, gpu.stream().device());
    cuda::conv({&frame, 1}, weight, {1, 3, 3, 1}, {1, 1, 1, 1}, false, to, gpu.stream(), provider);
    return gpu.down(to);
  };
  const cuda::DnnConvSize size{1, 9, 13, 16, 40, 3, 3, 1, 1, 1, 1, 1, 9, 13};
  const bool by_dnn = gpu.queue().dnn().has_plan(size);
  MESSAGE("cuDNN ", by_dnn ? "has a plan" : gpu.queue().dnn().why_not());
  const auto expected = run(0, by_dnn ? cuda::ConvProvider::cudnn : cuda::ConvProvider::rows);
  // A product's algorithm may depend on the alignment.
  for (const int64_t offset : {0, 0, 1, 2, 3})
    if (by_dnn || offset == 0)
      CHECK(same_bits(expected, run(offset, cuda::ConvProvider::automatic)));
}

TEST_CASE("gpu conv takes frames in bf16 as well") {
  Gpu gpu;
  for (const int64_t in : {1, 3, 4, 8, 12, 16, 40, 96})
    for (const int64_t out : {1, 3, 16, 33}) {
      const auto check = [&](const reference::ConvShape& s, bool bias, bool accumulate) {
        check_causal(gpu, Problem(s, DType::bf16, bias), accumulate, DType::bf16);
      };
      check({3, 5, 7, in, out, 3, 3, 3}, true, false);
      check({2, 1, 9, in, out, 1, 3, 3}, false, true);
      check({2, 6, 1, in, out, 3, 1, 1}, true, true);
      check({1, 4, 8, in, out, 1, 1, 1}, true, false);
    }
}

// 24 rows of 416 positions and 27 x 384 columns are 414 MB in f32: two parts.
TEST_CASE("gpu conv goes part by part when its matrix is large") {
  Gpu gpu;
  check_causal(gpu, Problem({1, 24, 416, 384, 3, 3, 3, 3}, DType::f32, true), false);
}

TEST_CASE("gpu conv with a stride and unequal padding") {
  Gpu gpu;
  for (const DType compute : kComputeTypes)
    for (const int64_t height : {4, 5, 8})
      for (const int64_t in : {3, 16}) {
        const Problem p({1, height, 7, in, 20, 1, 3, 3}, compute, true);
        const int64_t rows = (height + 1 - 3) / 2 + 1, columns = (7 + 1 - 3) / 2 + 1;
        const OwnedTensor x = gpu.up(p.x);
        OwnedTensor y(DType::f32, {rows, columns, 20}, gpu.stream().device());
        const auto packed = cuda::pack_conv(p.weight, p.bias, compute, gpu.stream());
        const ConstTensor frame = x.view().reshape({height, 7, in});

        cuda::conv({&frame, 1}, static_cast<const cuda::PackedConv&>(*packed), {1, 3, 3, 2},
                   {0, 1, 0, 1}, false, y, gpu.stream());

        const Doubles xs = to_doubles(p.x), ws = to_doubles(p.weight), bs = p.biases();
        Doubles bound = reference::conv2d(magnitude(xs), magnitude(ws), magnitude(bs), p.s, 2);
        for (double& b : bound) b *= p.unit();
        const Doubles expected = reference::conv2d(xs, ws, bs, p.s, 2);
        CHECK(worst_ratio(gpu.down(y), expected, bound) < 1.0);
      }
}

TEST_CASE("gpu conv: weights may lie on the GPU, and give the same bits") {
  Gpu gpu;
  const Problem p({1, 5, 6, 16, 8, 3, 3, 3}, DType::f32, true);
  const OwnedTensor x = gpu.up(p.x), weight = gpu.up(p.weight), bias = gpu.up(p.bias);
  const ConstTensor frames[] = {{}, {}, x.view().reshape({5, 6, 16})};
  OwnedTensor y[2];
  for (int i = 0; i < 2; ++i) {
    const auto packed = i == 0 ? cuda::pack_conv(p.weight, p.bias, DType::f32, gpu.stream())
                               : cuda::pack_conv(weight, bias, DType::f32, gpu.stream());
    OwnedTensor out(DType::f32, {5, 6, 8}, gpu.stream().device());
    cuda::conv(frames, static_cast<const cuda::PackedConv&>(*packed), {3, 3, 3, 1}, {1, 1, 1, 1},
               false, out, gpu.stream());
    y[i] = gpu.down(out);
  }
  CHECK(same_bits(y[0], y[1]));
}

TEST_CASE("gpu upsampling copies each pixel four times") {
  Gpu gpu;
  for (const DType dtype : kComputeTypes)
    for (const int64_t c : {1, 3, 4, 8, 96}) {
      const OwnedTensor x = random_tensor({3, 5, c}, 1, 1, dtype), on_gpu = gpu.up(x);
      OwnedTensor y(dtype, {6, 10, c}, gpu.stream().device());

      cuda::upsample_nearest(on_gpu, y, gpu.stream());

      const OwnedTensor got = gpu.down(y);
      int64_t wrong = 0;
      for (int64_t row = 0; row < 6; ++row)
        for (int64_t column = 0; column < 10; ++column)
          for (int64_t i = 0; i < c; ++i)
            wrong += element(got, row, column * c + i) != element(x, row / 2, column / 2 * c + i);
      CHECK(wrong == 0);
    }
}

TEST_CASE("gpu upsampling by duplicates takes the channels that the formula names") {
  Gpu gpu;
  struct Case {
    int64_t in, out, times;
  };
  for (const Case& k : {Case{16, 4, 1}, Case{8, 4, 2}, Case{8, 8, 2}})
    for (int64_t time = 0; time < k.times; ++time) {
      const OwnedTensor x = random_tensor({2, 3, k.in}, 1), on_gpu = gpu.up(x);
      OwnedTensor y(DType::f32, {4, 6, k.out}, gpu.stream().device());

      cuda::upsample_duplicate(on_gpu, k.times, time, y, gpu.stream());

      const OwnedTensor got = gpu.down(y);
      int64_t wrong = 0;
      for (int64_t h = 0; h < 2; ++h)
        for (int64_t w = 0; w < 3; ++w)
          for (int64_t i = 0; i < 2; ++i)
            for (int64_t j = 0; j < 2; ++j)
              for (int64_t o = 0; o < k.out; ++o) {
                const int64_t from =
                    ((o * k.times + time) * 4 + 2 * i + j) * k.in / (4 * k.times * k.out);
                wrong += got.as<float>()[((2 * h + i) * 6 + 2 * w + j) * k.out + o] !=
                         x.as<float>()[(h * 3 + w) * k.in + from];
              }
      CHECK(wrong == 0);
    }
}

}  // namespace longtake::testing
