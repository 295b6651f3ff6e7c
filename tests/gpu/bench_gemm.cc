// Matrix products and convolutions of the model's shapes: what run() takes against the best that
// cuBLASLt has, in TFLOP/s. Usage: bench_gemm
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_table.h"
#include "tests/gpu/gpu.h"
#include "tests/support/random.h"

namespace longtake::testing {
namespace {

using Epilogue = cuda::GemmArgs::Epilogue;

// Median of seven runs, after two.
template <class Work>
double seconds(Gpu& gpu, Work&& work) {
  cudaEvent_t start = nullptr, stop = nullptr;
  LT_CUDA(cudaEventCreate(&start));
  LT_CUDA(cudaEventCreate(&stop));
  std::vector<float> ms;
  for (int i = -2; i < 7; ++i) {
    LT_CUDA(cudaEventRecord(start, gpu.queue().handle()));
    work();
    LT_CUDA(cudaEventRecord(stop, gpu.queue().handle()));
    LT_CUDA(cudaEventSynchronize(stop));
    float one = 0;
    LT_CUDA(cudaEventElapsedTime(&one, start, stop));
    if (i >= 0) ms.push_back(one);
  }
  LT_CUDA(cudaEventDestroy(start));
  LT_CUDA(cudaEventDestroy(stop));
  std::sort(ms.begin(), ms.end());
  return ms[ms.size() / 2] / 1e3;
}

struct Operands {
  OwnedTensor a, w, d, bias;
  cuda::GemmArgs args;

  Operands(Gpu& gpu, int64_t m, int64_t n, int64_t k, DType out, Epilogue epilogue)
      : a(gpu.up(random_tensor({m, k}, 1, 1, DType::bf16))),
        w(gpu.up(random_tensor({n, k}, 2, 0.05f, DType::bf16))),
        d(out, {m, n}, gpu.stream().device()),
        bias(gpu.up(random_tensor({n}, 3, 1, out))) {
    args.m = m;
    args.n = n;
    args.k = k;
    args.a = a.view().data;
    args.lda = k;
    args.w = w.view().data;
    args.ldw = k;
    args.d = d.view().data;
    args.ldd = n;
    args.out = out;
    args.accumulate = out == DType::f32;
    args.epilogue = epilogue;
    args.bias = epilogue == Epilogue::none ? nullptr : bias.view().data;
  }
};

void bench_gemm(Gpu& gpu, const char* what, int64_t m, int64_t n, int64_t k, DType out,
                Epilogue epilogue) {
  const Operands o(gpu, m, n, k, out, epilogue);
  cuda::Gemm& gemm = gpu.queue().gemm();
  const double flop =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / 1e12;
  const auto run = [&] { gemm.run(o.args); };
  const double first = seconds(gpu, run);
  cuda::Gemm::tune(true);
  const double tuned = seconds(gpu, run);
  cuda::Gemm::tune(false);
  cuda::Gemm::Candidate best{.seconds = HUGE_VAL}, fixed{.seconds = HUGE_VAL};
  int count = 0;
  for (const auto& c : gemm.time_candidates(o.args)) {
    ++count;
    if (c.seconds < best.seconds) best = c;
    if (c.fixed_order && c.seconds < fixed.seconds) fixed = c;
  }
  std::printf(
      "%-22s %6ld %6ld %6ld %4s %8.1f %8.1f %8.1f %8.1f  %5.3f  %d candidates, best %d "
      "tile %d split %d\n",
      what, static_cast<long>(m), static_cast<long>(n), static_cast<long>(k),
      out == DType::f32 ? "f32" : "bf16", flop / first, flop / tuned, flop / fixed.seconds,
      flop / best.seconds, best.seconds / tuned, count, best.id, best.tile, best.split_k);
  std::fflush(stdout);
}

void bench_conv(Gpu& gpu, int64_t channels, int64_t out_channels, DType compute,
                cuda::ConvProvider provider) {
  const int64_t height = 480, width = 832;
  const OwnedTensor weight = random_tensor({out_channels, channels, 3, 3, 3}, 1, 0.05f);
  const OwnedTensor bias = random_tensor({out_channels}, 2);
  const auto packed = cuda::pack_conv(weight, bias, compute, gpu.stream());
  const OwnedTensor frame = gpu.up(random_tensor({height, width, channels}, 3, 1, compute));
  const ConstTensor frames[] = {frame, frame, frame};
  OwnedTensor y(DType::f32, {height, width, out_channels}, gpu.stream().device());
  const double s = seconds(gpu, [&] {
    cuda::conv(frames, static_cast<const cuda::PackedConv&>(*packed), {3, 3, 3, 1}, {1, 1, 1, 1},
               false, y, gpu.stream(), provider);
  });
  const double flop =
      2.0 * 27 * static_cast<double>(height * width * channels * out_channels) / 1e12;
  std::printf("conv 3x3x3 480x832 %3ld -> %3ld %-4s %-6s %8.3f ms %8.1f TFLOP/s\n",
              static_cast<long>(channels), static_cast<long>(out_channels),
              compute == DType::f32 ? "f32" : "bf16", cuda::name(provider), s * 1e3, flop / s);
  std::fflush(stdout);
}

void bench_conv_by_dnn(Gpu& gpu, int64_t channels, int64_t out_channels) {
  try {
    bench_conv(gpu, channels, out_channels, DType::bf16, cuda::ConvProvider::cudnn);
  } catch (const Error& error) {
    std::printf("conv 3x3x3 480x832 %3ld -> %3ld by cudnn: %s\n", static_cast<long>(channels),
                static_cast<long>(out_channels), error.what());
  }
}

void bench() {
  Gpu gpu;
  std::printf("%s\n", gpu.queue().info().name.c_str());
  std::printf("%-22s %6s %6s %6s %4s %8s %8s %8s %8s  %5s\n", "TFLOP/s", "m", "n", "k", "out",
              "first", "tuned", "fixed", "any", "ratio");
  bench_gemm(gpu, "ceiling", 8192, 8192, 8192, DType::bf16, Epilogue::none);
  const int64_t m = 32760;
  for (const auto& [dim, hidden] : {std::pair<int64_t, int64_t>{1536, 8960}, {5120, 13824}}) {
    bench_gemm(gpu, "projection", m, dim, dim, DType::bf16, Epilogue::bias);
    bench_gemm(gpu, "projection + residual", m, dim, dim, DType::f32, Epilogue::bias);
    bench_gemm(gpu, "ffn in, gelu", m, hidden, dim, DType::bf16, Epilogue::bias_gelu);
    bench_gemm(gpu, "ffn in, no gelu", m, hidden, dim, DType::bf16, Epilogue::bias);
    bench_gemm(gpu, "ffn out", m, dim, hidden, DType::bf16, Epilogue::bias);
  }
  bench_gemm(gpu, "ceiling", 8192, 8192, 8192, DType::bf16, Epilogue::none);
  for (const int64_t channels : {96, 192, 384})
    for (const DType compute : {DType::f32, DType::bf16})
      bench_conv(gpu, channels, channels, compute, cuda::ConvProvider::rows);
  for (const int64_t channels : {96, 192, 384}) bench_conv_by_dnn(gpu, channels, channels);
  bench_conv_by_dnn(gpu, 96, 3);
  for (const DType compute : {DType::f32, DType::bf16})
    for (const auto provider : {cuda::ConvProvider::rows, cuda::ConvProvider::direct})
      bench_conv(gpu, 96, 3, compute, provider);
}

}  // namespace
}  // namespace longtake::testing

int main() {
  try {
    longtake::testing::bench();
  } catch (const longtake::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
