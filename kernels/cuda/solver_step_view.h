// What the kernel of kernels/solver_step.h is given, and its launcher.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace longtake::cuda {

struct SolverStepView {
  int64_t n;
  const float *conditional, *unconditional, *data_1, *data_2;
  float *latent, *data, *last;
  float unconditional_weight, conditional_weight, minus_sigma;
  int corrector_terms, predictor_terms;
  float corrector[4], predictor[3];
};

void start(const SolverStepView& view, CUstream_st* stream);

}  // namespace longtake::cuda
