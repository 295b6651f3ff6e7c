// One step of a two-step solver of the flow ODE, guidance included, in one pass over memory on a
// GPU. All tensors f32, dense, of one size; sums go from left to right, each product rounded once.
#pragma once

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

struct SolverStepArgs {
  // The velocity v = (1 - scale) u + scale c; v = c without u.
  ConstTensor conditional, unconditional;
  float unconditional_weight = 0, conditional_weight = 1;

  // m = x - sigma v is written to `data`.
  Tensor latent;  // x, then what the step makes of it
  float minus_sigma = 0;
  Tensor data;

  // Corrector: z = sum of corrector[k] times (last, data_1, m, data_2), the first `corrector_terms`
  // of them; z = x when there are none. z is written to `last`.
  int corrector_terms = 0;  // 0, 3 or 4
  float corrector[4] = {};
  Tensor last;
  ConstTensor data_1, data_2;  // empty where no term needs them

  // Predictor: the latent becomes the sum of predictor[k] times (z, m, data_1), or m alone (1).
  int predictor_terms = 2;  // 1: m; 2 or 3
  float predictor[3] = {};
};

void solver_step(const SolverStepArgs& args, StreamRef stream);

}  // namespace longtake
