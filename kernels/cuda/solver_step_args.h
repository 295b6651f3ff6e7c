// kernels/solver_step.h in the kernel's words.
#pragma once

#include "kernels/cuda/solver_step_view.h"
#include "kernels/solver_step.h"

namespace longtake::cuda {

inline SolverStepView view_of(const SolverStepArgs& a) {
  const auto in = [](ConstTensor x) { return static_cast<const float*>(x.data); };
  const auto out = [](Tensor x) { return static_cast<float*>(x.data); };
  SolverStepView v{};
  v.n = a.latent.numel();
  v.conditional = in(a.conditional), v.unconditional = in(a.unconditional);
  v.data_1 = in(a.data_1), v.data_2 = in(a.data_2);
  v.latent = out(a.latent), v.data = out(a.data), v.last = out(a.last);
  v.unconditional_weight = a.unconditional_weight, v.conditional_weight = a.conditional_weight;
  v.minus_sigma = a.minus_sigma;
  v.corrector_terms = a.corrector_terms, v.predictor_terms = a.predictor_terms;
  for (int k = 0; k < 4; ++k) v.corrector[k] = a.corrector[k];
  for (int k = 0; k < 3; ++k) v.predictor[k] = a.predictor[k];
  return v;
}

}  // namespace longtake::cuda
