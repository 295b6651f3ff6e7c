#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/elementwise.h"
#include "runtime/sampler/solver.h"

namespace longtake {

namespace {

// Half the log signal-to-noise ratio of a flow: alpha = 1 - sigma.
double lambda(double sigma) {
  return std::log(1.0 - sigma) - std::log(sigma);
}

void combine(std::array<ConstTensor, 4> x, std::array<double, 4> weight, size_t count, Tensor y,
             StreamRef stream) {
  std::array<float, 4> rounded{};
  for (size_t i = 0; i < count; ++i) rounded[i] = static_cast<float>(weight[i]);
  linear_combination({x.data(), count}, {rounded.data(), count}, y, stream);
}

// The order that the predictor of step k uses.
int64_t order(int64_t k, int64_t steps) {
  return std::min<int64_t>({2, steps - k, k + 1});
}

}  // namespace

// x = (s/sp) x_last - (1-s) e (m1 + c0 (m2 - m1)/r + c1 (m - m1)), with the names of wan.md 6.1.
void UniPc::correct(SolverState& state, ConstTensor m, StreamRef stream) const {
  const auto k = static_cast<size_t>(state.step);
  const double s = schedule_.sigmas[k], sp = schedule_.sigmas[k - 1];
  const double h = lambda(s) - lambda(sp), e = std::expm1(-h);
  double c0_r = 0, c1 = 0.5;
  const bool second = order(state.step - 1, schedule_.steps()) == 2;
  if (second) {
    const double r = (lambda(schedule_.sigmas[k - 2]) - lambda(sp)) / h, hh = -h;
    const double b1 = (e / hh - 1) / e, b2 = 2 * ((e / hh - 1) / hh - 0.5) / e;
    const double c0 = (b2 - b1) / (r - 1);
    c1 = b1 - c0;
    c0_r = c0 / r;
  }
  const double outer = -(1 - s) * e;
  combine({state.last, state.data_1, m, state.data_2},
          {s / sp, outer * (1 - c0_r - c1), outer * c1, outer * c0_r}, second ? 4 : 3, state.latent,
          stream);
}

// x_next = (sn/s) x - (1-sn) e (m + q), q = (m1 - m) / (2 r); the last step gives exactly m.
void UniPc::predict(SolverState& state, ConstTensor m, StreamRef stream) const {
  const auto k = static_cast<size_t>(state.step);
  const double s = schedule_.sigmas[k], sn = schedule_.sigmas[k + 1];
  if (sn == 0) {
    combine({m}, {1.0}, 1, state.latent, stream);
    return;
  }
  const double h = lambda(sn) - lambda(s), outer = -(1 - sn) * std::expm1(-h);
  const bool second = order(state.step, schedule_.steps()) == 2;
  double half_r = 0;  // 1 / (2 r)
  if (second) half_r = 0.5 / ((lambda(schedule_.sigmas[k - 1]) - lambda(s)) / h);
  combine({state.last, m, state.data_1}, {sn / s, outer * (1 - half_r), outer * half_r},
          second ? 3 : 2, state.latent, stream);
}

void UniPc::advance(SolverState& state, ConstTensor velocity, StreamRef stream) const {
  const auto k = static_cast<size_t>(state.step);
  LT_CHECK(k + 1 < schedule_.sigmas.size(), "all {} steps are done", schedule_.steps());
  const Shape shape = state.latent.shape();
  if (!state.last) state.last = OwnedTensor(DType::f32, shape, stream.device());
  OwnedTensor fresh(DType::f32, shape, stream.device());
  combine({state.latent, velocity}, {1.0, -static_cast<double>(schedule_.sigmas[k])}, 2, fresh,
          stream);
  if (state.step > 0) correct(state, fresh, stream);
  convert(state.latent, state.last, stream);
  predict(state, fresh, stream);
  state.data_2 = std::move(state.data_1);
  state.data_1 = std::move(fresh);
  ++state.step;
}

}  // namespace longtake
