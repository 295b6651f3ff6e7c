// The bias of relative positions: one thread an element.
#pragma once

#include "kernels/cuda/elementwise_args.h"

namespace longtake::cuda {

constexpr int kRelativeBiasThreads = 256;

static __global__ void __launch_bounds__(kRelativeBiasThreads)
    relative_bias_kernel(RelativeBiasArgs a) {
  const int64_t at = int64_t{blockIdx.x} * kRelativeBiasThreads + static_cast<int>(threadIdx.x);
  if (at >= a.heads * a.tokens * a.tokens) return;
  const int64_t row = at / a.tokens, key = at % a.tokens;
  const int64_t head = row / a.tokens, query = row % a.tokens;
  a.bias[at] = a.table[a.bucket[key - query + a.tokens - 1] * a.heads + head];
}

}  // namespace longtake::cuda
