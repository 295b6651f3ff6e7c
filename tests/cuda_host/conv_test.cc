// The direct convolution on the host, against the oracle: a sum of n products in f32 is off by at
// most (n + 2) u sum |x w|, in any order, bias included. bf16 operands are bf16 on both sides.
#include "kernels/reference/conv.h"
#include "tests/cuda_host/host_kernels.h"
// The shim comes first.
#include <doctest/doctest.h>

#include "kernels/cuda/conv_direct.cuh"
#include "kernels/elementwise.h"
#include "tests/kernels/rows.h"

namespace longtake::testing {
namespace {

using Doubles = std::vector<double>;

Doubles magnitude(Doubles v) {
  for (double& e : v) e = std::abs(e);
  return v;
}

OwnedTensor in_type(const OwnedTensor& x, DType dtype) {
  OwnedTensor out(dtype, x.shape());
  convert(x, out, host_stream());
  return out;
}

// weight [out, in, kt, 3, 3] -> [out, (kt, 3, 3, in), some columns more]
OwnedTensor packed(const OwnedTensor& weight, DType dtype) {
  const int64_t out = weight.dim(0), in = weight.dim(1), plane = weight.dim(2) * 9;
  OwnedTensor matrix = random_tensor({out, (plane * in + 7) / 8 * 8}, 9);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      for (int64_t p = 0; p < plane; ++p)
        matrix.as<float>()[o * matrix.dim(1) + p * in + i] =
            weight.as<float>()[(o * in + i) * plane + p];
  return in_type(matrix, dtype);
}

struct Case {
  int64_t height, width, in, out, taps;
  DType frames, weight;
  bool bias, accumulate;
};

void check(const Case& k) {
  CAPTURE(k.height);
  CAPTURE(k.width);
  CAPTURE(k.in);
  CAPTURE(k.out);
  CAPTURE(k.taps);
  CAPTURE(name(k.frames));
  CAPTURE(name(k.weight));
  const reference::ConvShape s{k.taps, k.height, k.width, k.in, k.out, k.taps, 3, 3};
  // Operands as the kernel sees them; frames stay in f32 where those are asked for.
  const OwnedTensor x = in_type(random_tensor({s.frames, s.height, s.width, s.in}, 1), k.frames);
  const OwnedTensor seen = in_type(in_type(x, DType::f32), k.weight);
  const OwnedTensor weight =
      in_type(in_type(random_tensor({s.out, s.in, s.kt, 3, 3}, 2), k.weight), DType::f32);
  const OwnedTensor bias = random_tensor({s.out}, 3), matrix = packed(weight, k.weight);
  const OwnedTensor before = random_tensor({s.height, s.width, s.out}, 4, 2);
  OwnedTensor y = random_tensor({s.height, s.width, s.out}, 4, 2);

  cuda::DirectConvArgs a{};
  const int64_t plane = s.height * s.width * s.in * static_cast<int64_t>(size_bytes(k.frames));
  for (int64_t t = 0; t < s.kt; ++t)
    a.rows.frames[t] = static_cast<const char*>(x.view().data) + t * plane;
  a.rows.taps = static_cast<int>(s.kt);
  a.rows.height = a.rows.rows = static_cast<int>(s.height);
  a.rows.width = a.rows.width_out = static_cast<int>(s.width);
  a.rows.in = static_cast<int>(s.in);
  a.rows.pad_top = a.rows.pad_left = 1;
  a.rows.columns = static_cast<int>(matrix.dim(1));
  a.frame_type = k.frames;
  a.weight_type = k.weight;
  a.weight = matrix.view().data;
  a.bias = k.bias ? bias.as<float>() : nullptr;
  a.y = y.as<float>();
  a.out = static_cast<int>(s.out);
  a.accumulate = k.accumulate;
  cuda::direct::launch_direct_conv(a, HostLaunch{});

  const Doubles xs = to_doubles(seen), ws = to_doubles(weight);
  const Doubles bs = k.bias ? to_doubles(bias) : Doubles(), old = to_doubles(before);
  // The last of its frames sees all of them.
  const Doubles all = reference::causal_conv3d(xs, ws, bs, s);
  const Doubles sizes = reference::causal_conv3d(magnitude(xs), magnitude(ws), magnitude(bs), s);
  const auto n = static_cast<size_t>(y.numel());
  Doubles expected(all.end() - static_cast<ptrdiff_t>(n), all.end());
  Doubles bound(sizes.end() - static_cast<ptrdiff_t>(n), sizes.end());
  for (size_t i = 0; i < n; ++i) {
    bound[i] *= kUnit32 * static_cast<double>(s.in * s.kt * 9 + 2);
    if (!k.accumulate) continue;
    expected[i] += old[i];
    bound[i] += 2 * kUnit32 * std::abs(old[i]);
  }
  CHECK(worst_ratio(y, expected, bound) < 1.0);
}

}  // namespace

TEST_CASE("cuda direct conv agrees with the oracle") {
  const DType types[][2] = {
      {DType::f32, DType::f32}, {DType::f32, DType::bf16}, {DType::bf16, DType::bf16}};
  for (const auto& [frames, weight] : types)
    for (const int64_t in : {1, 3, 8, 12, 16})
      for (const int64_t out : {1, 3, 4, 5, 12, 16}) {
        check({5, 7, in, out, 3, frames, weight, true, false});
        check({9, 66, in, out, 1, frames, weight, false, true});
      }
  for (const int64_t height : {1, 8, 17})
    for (const int64_t width : {1, 4, 63, 64, 65, 130})
      check({height, width, 8, 3, 2, DType::bf16, DType::bf16, true, false});
}

TEST_CASE("cuda direct conv: an empty frame is one of zeros") {
  const OwnedTensor x = random_tensor({6, 70, 8}, 1), weight = random_tensor({3, 8, 3, 3, 3}, 2);
  const OwnedTensor zeros = random_tensor({6, 70, 8}, 1, 0), matrix = packed(weight, DType::f32);
  OwnedTensor y[2];
  for (int empty = 0; empty < 2; ++empty) {
    y[empty] = OwnedTensor(DType::f32, {6, 70, 3});
    const float* old = empty ? nullptr : zeros.as<float>();
    cuda::DirectConvArgs a{};
    a.rows = {{old, old, x.as<float>()}, 3, 3, 3, 1, 6, 70, 8, 1, 1, 216, 0, 6, 70};
    a.frame_type = a.weight_type = DType::f32;
    a.weight = matrix.as<float>();
    a.y = y[empty].as<float>();
    a.out = 3;
    cuda::direct::launch_direct_conv(a, HostLaunch{});
  }
  CHECK(same_bits(y[0], y[1]));
}

}  // namespace longtake::testing
