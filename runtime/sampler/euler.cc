#include <array>

#include "kernels/elementwise.h"
#include "runtime/sampler/solver.h"

namespace longtake {

void Euler::advance(SolverState& state, const Velocity& velocity, StreamRef stream) const {
  const auto k = static_cast<size_t>(state.step);
  LT_CHECK(k + 1 < schedule_.sigmas.size(), "all {} steps are done", schedule_.steps());
  OwnedTensor guided;
  ConstTensor v = velocity.conditional;
  if (velocity.unconditional) {
    guided = OwnedTensor(DType::f32, state.latent.shape(), stream.device());
    const std::array<ConstTensor, 2> both{velocity.unconditional, velocity.conditional};
    const std::array<float, 2> weight{static_cast<float>(1.0 - velocity.scale),
                                      static_cast<float>(velocity.scale)};
    linear_combination(both, weight, guided, stream);
    v = guided;
  }
  const std::array<ConstTensor, 2> x{state.latent, v};
  const std::array<float, 2> weight{1.0f, schedule_.sigmas[k + 1] - schedule_.sigmas[k]};
  linear_combination(x, weight, state.latent, stream);
  ++state.step;
}

}  // namespace longtake
