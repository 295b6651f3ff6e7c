#include "kernels/cpu/peak.h"

#include <algorithm>
#include <chrono>

#include "kernels/cpu/kernel_table.h"

namespace longtake::cpu {

namespace {

double best_rate(float (*loop)(int64_t, float), double flops, int repeat) {
  if (!loop) return 0;
  using Clock = std::chrono::steady_clock;
  int64_t rounds = 1000;
  double best = 0;
  volatile float sink = 0;
  for (int i = 0; i < repeat;) {
    const auto begin = Clock::now();
    sink = loop(rounds, 0.5f);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (seconds < 1e-3 && rounds < (int64_t{1} << 40)) {
      rounds *= 2;
      continue;
    }
    best = std::max(best, flops * static_cast<double>(rounds) / seconds);
    ++i;
  }
  static_cast<void>(sink);
  return best;
}

}  // namespace

Peak measure_peak(int repeat) {
  const PeakKernel& kernel = *active_kernels().peak;
  return {best_rate(kernel.fma, kernel.fma_flops, repeat),
          best_rate(kernel.bf16, kernel.bf16_flops, repeat)};
}

}  // namespace longtake::cpu
