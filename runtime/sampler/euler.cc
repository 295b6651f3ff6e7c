#include <array>

#include "kernels/elementwise.h"
#include "runtime/sampler/solver.h"

namespace longtake {

void Euler::advance(SolverState& state, ConstTensor velocity, StreamRef stream) const {
  const auto k = static_cast<size_t>(state.step);
  LT_CHECK(k + 1 < schedule_.sigmas.size(), "all {} steps are done", schedule_.steps());
  const std::array<ConstTensor, 2> x{state.latent, velocity};
  const std::array<float, 2> weight{1.0f, schedule_.sigmas[k + 1] - schedule_.sigmas[k]};
  linear_combination(x, weight, state.latent, stream);
  ++state.step;
}

}  // namespace longtake
