// kernels/solver_step.h: one thread an element, with the sums of linear_combination.
#pragma once

#include "kernels/cuda/solver_step_view.h"

namespace longtake::cuda {

static __global__ void solver_step_kernel(SolverStepView a) {
  const int64_t i =
      int64_t{blockIdx.x} * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  if (i >= a.n) return;
  float v = a.conditional[i];
  if (a.unconditional)
    v = __fmaf_rn(v, a.conditional_weight, __fmul_rn(a.unconditional[i], a.unconditional_weight));
  const float x = a.latent[i], m = __fmaf_rn(v, a.minus_sigma, x);
  const float d1 = a.data_1 ? a.data_1[i] : 0.0f;
  float z = x;
  if (a.corrector_terms > 0) {
    z = __fmaf_rn(d1, a.corrector[1], __fmul_rn(a.last[i], a.corrector[0]));
    z = __fmaf_rn(m, a.corrector[2], z);
    if (a.corrector_terms == 4) z = __fmaf_rn(a.data_2[i], a.corrector[3], z);
  }
  float next = m;
  if (a.predictor_terms > 1) {
    next = __fmaf_rn(m, a.predictor[1], __fmul_rn(z, a.predictor[0]));
    if (a.predictor_terms == 3) next = __fmaf_rn(d1, a.predictor[2], next);
  }
  a.data[i] = m;
  a.last[i] = z;
  a.latent[i] = next;
}

}  // namespace longtake::cuda
