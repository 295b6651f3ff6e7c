// Every kernel that shares memory between threads, once, on little work: what racecheck can watch
// in seconds (tests/gpu.sh). The numbers are checked elsewhere; here, that two calls agree.
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <functional>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/norm.h"
#include "kernels/elementwise.h"
#include "tests/gpu/gpu.h"
#include "tests/support/random.h"

namespace longtake::testing {

namespace {

using cuda::AttentionProvider;

// Two calls on poisoned outputs give the same finite bits.
void check_repeatable(Gpu& gpu, OwnedTensor& y, const std::function<void()>& work) {
  std::array<OwnedTensor, 2> got;
  for (OwnedTensor& result : got) {
    OwnedTensor poison(y.dtype(), y.shape());
    std::memset(poison.view().data, 0xff, poison.bytes());
    copy(poison, y, gpu.stream());
    work();
    result = gpu.down(y);
  }
  CHECK(std::memcmp(got[0].view().data, got[1].view().data, got[0].bytes()) == 0);
  CHECK(all_finite(got[0], StreamRef(gpu.stream().pool())));
}

void check_attention(AttentionProvider provider, int64_t dim) {
  Gpu gpu;
  constexpr int64_t kHeads = 2, kQueries = 129;
  const OwnedTensor q = gpu.up(random_tensor({kQueries, kHeads, dim}, 1, 1, DType::bf16));
  const OwnedTensor k = gpu.up(random_tensor({150, kHeads, dim}, 2, 1, DType::bf16));
  const OwnedTensor v = gpu.up(random_tensor({150, kHeads, dim}, 3, 1, DType::bf16));
  const std::array<KeySegment, 2> segments{{{k.view().rows(0, 130), v.view().rows(0, 130)},
                                            {k.view().rows(130, 150), v.view().rows(130, 150)}}};
  OwnedTensor out(DType::bf16, {kQueries, kHeads, dim}, gpu.stream().device());
  AttentionArgs args;
  args.q = q;
  args.segments = segments;
  args.out = out;
  args.scale = 0.1f;
  CAPTURE(static_cast<int>(provider));
  CAPTURE(dim);
  check_repeatable(gpu, out, [&] { cuda::attention(args, gpu.queue(), provider); });
}

}  // namespace

TEST_CASE("gpu small: attention") {
  const bool hopper = Gpu().queue().info().compute_major == 9;
  for (const int64_t dim : {64, 128}) {
    check_attention(AttentionProvider::plain, dim);
    check_attention(AttentionProvider::mma, dim);
    if (!hopper) continue;
    check_attention(AttentionProvider::wgmma_simple, dim);
    check_attention(AttentionProvider::wgmma, dim);
  }
}

TEST_CASE("gpu small: norms") {
  Gpu gpu;
  const Device device = gpu.stream().device();
  for (const int64_t dim : {96, 1536}) {
    CAPTURE(dim);
    constexpr int64_t kRows = 5;
    const OwnedTensor x = gpu.up(random_tensor({kRows, dim}, 1)),
                      row = gpu.up(random_tensor({1, dim}, 2));
    const OwnedTensor gamma = gpu.up(random_tensor({dim}, 3));
    const OwnedTensor angles = gpu.up(random_tensor({kRows, 16}, 4));
    const OwnedTensor update = gpu.up(random_tensor({kRows, dim}, 5, 1, DType::bf16));
    OwnedTensor y(DType::bf16, {kRows, dim}, device), residual(DType::f32, {kRows, dim}, device);
    check_repeatable(gpu, y,
                     [&] { cuda::layer_norm(x, row, row, nullptr, true, 1e-6f, y, gpu.queue()); });
    check_repeatable(
        gpu, y, [&] { cuda::rms_norm(x, gamma, 1e-6f, angles, angles, dim / 32, y, gpu.queue()); });
    check_repeatable(gpu, y, [&] {
      copy(x, residual, gpu.stream());
      cuda::add_gated_layer_norm(update, row, nullptr, residual, row, row, nullptr, true, 1e-6f, y,
                                 gpu.queue());
    });
    check_repeatable(gpu, y, [&] { cuda::channel_norm(x, gamma, true, y, gpu.queue()); });
  }
}

TEST_CASE("gpu small: convolution to few channels") {
  Gpu gpu;
  const ConvWeights weights(random_tensor({3, 32, 3, 3, 3}, 1), random_tensor({3}, 2), 1,
                            DType::f32, gpu.stream());
  const OwnedTensor x = gpu.up(random_tensor({9, 20, 32}, 3));
  const std::array<ConstTensor, 3> frames{ConstTensor{}, x, x};
  OwnedTensor y(DType::f32, {9, 20, 3}, gpu.stream().device());
  check_repeatable(gpu, y, [&] { conv(frames, weights, {1, 1, 1, 1}, false, y, gpu.stream()); });
}

}  // namespace longtake::testing
