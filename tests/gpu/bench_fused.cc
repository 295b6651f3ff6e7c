// Memory-bound kernels on a GPU: microseconds (median of 20), GB/s with each input read once and
// each output written once, and the share of the bandwidth of a device-to-device copy (read +
// write) in the same run. Calls walk over copies of their operands of 512 MB or more altogether, so
// that none is found in the cache.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

#include "kernels/cuda/check.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/random.h"

namespace longtake::testing {
namespace {

constexpr int kWarmUp = 3, kCalls = 20;
constexpr int64_t kTokens = 32760;

// Several matrices of one shape; random elements.
class Operand {
 public:
  Operand(GpuKernels& gpu, DType dtype, int64_t rows, int64_t columns) : rows_(rows) {
    const size_t bytes = static_cast<size_t>(rows * columns) * size_bytes(dtype);
    copies_ = static_cast<int64_t>((size_t{512} << 20) / bytes + 1);
    all_ = OwnedTensor(dtype, {copies_ * rows, columns}, gpu.stream().device());
    const OwnedTensor some = random_tensor({int64_t{1} << 20}, 1, 1, dtype);
    auto* to = static_cast<char*>(all_.view().data);
    size_t done = std::min(some.bytes(), all_.bytes());
    LT_CUDA(
        cudaMemcpyAsync(to, some.view().data, done, cudaMemcpyHostToDevice, gpu.queue().handle()));
    gpu.queue().synchronize();
    while (done < all_.bytes()) {
      const size_t more = std::min(done, all_.bytes() - done);
      LT_CUDA(cudaMemcpyAsync(to + done, to, more, cudaMemcpyDeviceToDevice, gpu.queue().handle()));
      done += more;
    }
  }
  Tensor at(int call) {
    const int64_t i = call % copies_;
    return all_.view().rows(i * rows_, (i + 1) * rows_);
  }
  double bytes() const { return static_cast<double>(all_.bytes()) / static_cast<double>(copies_); }

 private:
  int64_t rows_, copies_ = 1;
  OwnedTensor all_;
};

class Bench {
 public:
  explicit Bench(GpuKernels& gpu) : gpu_(gpu) {
    for (cudaEvent_t& e : events_) LT_CUDA(cudaEventCreate(&e));
  }

  // f(call) issues the work of one call, which moves `bytes`.
  double run(const char* kernel, int64_t rows, int64_t dim, const char* types, double bytes,
             const std::function<void(int)>& f) {
    for (int i = 0; i < kWarmUp; ++i) f(i);
    for (int i = 0; i < kCalls; ++i) {
      LT_CUDA(cudaEventRecord(events_[2 * i], gpu_.queue().handle()));
      f(kWarmUp + i);
      LT_CUDA(cudaEventRecord(events_[2 * i + 1], gpu_.queue().handle()));
    }
    gpu_.queue().synchronize();
    std::vector<float> ms(kCalls);
    for (int i = 0; i < kCalls; ++i)
      LT_CUDA(
          cudaEventElapsedTime(&ms[static_cast<size_t>(i)], events_[2 * i], events_[2 * i + 1]));
    std::nth_element(ms.begin(), ms.begin() + kCalls / 2, ms.end());
    const double seconds = ms[kCalls / 2] * 1e-3, rate = bytes / seconds;
    if (copy_rate_ == 0) copy_rate_ = rate;
    std::printf("%-22s %8lld x %-5lld %-12s %9.1f us %8.1f GB/s %5.1f %%\n", kernel,
                static_cast<long long>(rows), static_cast<long long>(dim), types, seconds * 1e6,
                rate * 1e-9, 100 * rate / copy_rate_);
    std::fflush(stdout);
    return seconds;
  }

 private:
  GpuKernels& gpu_;
  cudaEvent_t events_[2 * kCalls] = {};
  double copy_rate_ = 0;
};

void bench_copy(GpuKernels& gpu, Bench& bench) {
  Operand x(gpu, DType::f32, kTokens, 5120), y(gpu, DType::f32, kTokens, 5120);
  bench.run("copy", kTokens, 5120, "f32", x.bytes() + y.bytes(), [&](int i) {
    LT_CUDA(cudaMemcpyAsync(y.at(i).data, x.at(i).data, static_cast<size_t>(x.bytes()),
                            cudaMemcpyDeviceToDevice, gpu.queue().handle()));
  });
}

void bench_layer_norms(GpuKernels& gpu, Bench& bench, int64_t dim) {
  Operand residual(gpu, DType::f32, kTokens, dim), update(gpu, DType::bf16, kTokens, dim);
  Operand y(gpu, DType::bf16, kTokens, dim), wide(gpu, DType::f32, kTokens, dim);
  const OwnedTensor one = gpu.up(random_tensor({1, dim}, 2));
  const double r = residual.bytes(), h = y.bytes();
  bench.run("layer_norm", kTokens, dim, "f32 -> bf16", r + h, [&](int i) {
    gpu.layer_norm(residual.at(i), one, one, nullptr, true, 1e-6f, y.at(i));
  });
  bench.run("layer_norm", kTokens, dim, "f32 -> f32", 2 * r, [&](int i) {
    gpu.layer_norm(residual.at(i), one, one, nullptr, true, 1e-6f, wide.at(i));
  });
  bench.run("add_gated", kTokens, dim, "bf16", 2 * r + h,
            [&](int i) { gpu.add_gated(update.at(i), one, nullptr, residual.at(i)); });
  bench.run("add_gated_layer_norm", kTokens, dim, "bf16 -> bf16", 2 * r + 2 * h, [&](int i) {
    gpu.add_gated_layer_norm(update.at(i), one, nullptr, residual.at(i), one, one, nullptr, true,
                             1e-6f, y.at(i));
  });
  bench.run("the same, two calls", kTokens, dim, "bf16 -> bf16", 3 * r + 2 * h, [&](int i) {
    gpu.add_gated(update.at(i), one, nullptr, residual.at(i));
    gpu.layer_norm(residual.at(i), one, one, nullptr, true, 1e-6f, y.at(i));
  });
}

void bench_rms_norms(GpuKernels& gpu, Bench& bench, int64_t dim) {
  constexpr int64_t kHead = 128;
  Operand x(gpu, DType::bf16, kTokens, dim), y(gpu, DType::bf16, kTokens, dim);
  Operand cosine(gpu, DType::f32, kTokens, kHead / 2), sine(gpu, DType::f32, kTokens, kHead / 2);
  const OwnedTensor one = gpu.up(random_tensor({1, dim}, 2));
  bench.run("rms_norm", kTokens, dim, "bf16 -> bf16", 2 * x.bytes(),
            [&](int i) { gpu.rms_norm(x.at(i), one, 1e-6f, {}, {}, 1, y.at(i)); });
  bench.run("rms_norm_rope in place", kTokens, dim, "bf16", 2 * x.bytes() + 2 * sine.bytes(),
            [&](int i) {
              gpu.rms_norm(x.at(i), one, 1e-6f, cosine.at(i), sine.at(i), dim / kHead, x.at(i));
            });
}

void bench_channel_norms(GpuKernels& gpu, Bench& bench, int64_t dim) {
  constexpr int64_t kRows = 400000;
  const OwnedTensor one = gpu.up(random_tensor({1, dim}, 2));
  for (const DType type : {DType::f32, DType::bf16}) {
    Operand x(gpu, type, kRows, dim), y(gpu, type, kRows, dim);
    bench.run("channel_norm_silu", kRows, dim, type == DType::f32 ? "f32" : "bf16", 2 * x.bytes(),
              [&](int i) { gpu.channel_norm(x.at(i), one, true, y.at(i)); });
  }
  Operand x(gpu, DType::f32, kRows, dim), y(gpu, DType::bf16, kRows, dim);
  bench.run("channel_norm_silu", kRows, dim, "f32 -> bf16", x.bytes() + y.bytes(),
            [&](int i) { gpu.channel_norm(x.at(i), one, true, y.at(i)); });
}

void bench_pointwise(GpuKernels& gpu, Bench& bench) {
  constexpr int64_t kDim = 5120;
  Operand a(gpu, DType::f32, kTokens, kDim), b(gpu, DType::f32, kTokens, kDim);
  Operand c(gpu, DType::f32, kTokens, kDim), d(gpu, DType::f32, kTokens, kDim);
  Operand h(gpu, DType::bf16, kTokens, kDim);
  Operand g(gpu, DType::bf16, kTokens, kDim), y(gpu, DType::bf16, kTokens, kDim);
  const OwnedTensor bias = gpu.up(random_tensor({kDim}, 2));
  const double wide = a.bytes(), narrow = h.bytes();
  const auto run = [&](const char* kernel, const char* types, double bytes,
                       const std::function<void(int)>& f) {
    bench.run(kernel, kTokens, kDim, types, bytes, f);
  };
  run("convert", "f32 -> bf16", wide + narrow, [&](int i) { gpu.convert(a.at(i), h.at(i)); });
  run("convert", "bf16 -> f32", wide + narrow, [&](int i) { gpu.convert(g.at(i), c.at(i)); });
  run("silu", "f32", 2 * wide, [&](int i) { gpu.silu(a.at(i), c.at(i)); });
  run("gated_gelu", "bf16", 3 * narrow, [&](int i) { gpu.gated_gelu(g.at(i), h.at(i), y.at(i)); });
  run("add", "f32", 3 * wide, [&](int i) { gpu.add(a.at(i), b.at(i)); });
  run("linear_combination 2", "f32", 3 * wide, [&](int i) {
    const ConstTensor x[] = {a.at(i), b.at(i)};
    const float weight[] = {-4.0f, 5.0f};
    gpu.linear_combination(x, weight, c.at(i));
  });
  run("linear_combination 3", "f32", 4 * wide, [&](int i) {
    const ConstTensor x[] = {a.at(i), b.at(i), c.at(i)};
    const float weight[] = {0.5f, 0.25f, 0.25f};
    gpu.linear_combination(x, weight, d.at(i));
  });
  run("bias_activation gelu", "bf16", 2 * narrow,
      [&](int i) { gpu.bias_activation(y.at(i), bias.as<float>(), 1); });
  run("all_finite (waits)", "f32", wide, [&](int i) { (void)gpu.all_finite(a.at(i)); });
}

void bench_all() {
  GpuKernels gpu;
  std::printf("%s\n", gpu.queue().info().name.c_str());
  Bench bench(gpu);
  bench_copy(gpu, bench);
  for (const int64_t dim : {1536, 5120}) {
    bench_layer_norms(gpu, bench, dim);
    bench_rms_norms(gpu, bench, dim);
  }
  for (const int64_t dim : {96, 192, 384}) bench_channel_norms(gpu, bench, dim);
  bench_pointwise(gpu, bench);
}

}  // namespace
}  // namespace longtake::testing

int main() {
  longtake::testing::bench_all();
  return 0;
}
