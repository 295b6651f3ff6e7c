#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/sampler/solver.h"

namespace longtake {

namespace {

// Half the log signal-to-noise ratio of a flow: alpha = 1 - sigma.
double lambda(double sigma) {
  return std::log(1.0 - sigma) - std::log(sigma);
}

// The order that the predictor of step k uses.
int64_t order(int64_t k, int64_t steps) {
  return std::min<int64_t>({2, steps - k, k + 1});
}

}  // namespace

// x = (s/sp) x_last - (1-s) e (m1 + c0 (m2 - m1)/r + c1 (m - m1)), with the names of wan.md 6.1.
void UniPc::correct(const SolverState& state, SolverStepArgs& args) const {
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
  args.corrector_terms = second ? 4 : 3;
  args.corrector[0] = static_cast<float>(s / sp);
  args.corrector[1] = static_cast<float>(outer * (1 - c0_r - c1));
  args.corrector[2] = static_cast<float>(outer * c1);
  args.corrector[3] = static_cast<float>(outer * c0_r);
}

// x_next = (sn/s) x - (1-sn) e (m + q), q = (m1 - m) / (2 r); the last step gives exactly m.
void UniPc::predict(const SolverState& state, SolverStepArgs& args) const {
  const auto k = static_cast<size_t>(state.step);
  const double s = schedule_.sigmas[k], sn = schedule_.sigmas[k + 1];
  args.predictor_terms = 1;
  if (sn == 0) return;
  const double h = lambda(sn) - lambda(s), outer = -(1 - sn) * std::expm1(-h);
  const bool second = order(state.step, schedule_.steps()) == 2;
  double half_r = 0;  // 1 / (2 r)
  if (second) half_r = 0.5 / ((lambda(schedule_.sigmas[k - 1]) - lambda(s)) / h);
  args.predictor_terms = second ? 3 : 2;
  args.predictor[0] = static_cast<float>(sn / s);
  args.predictor[1] = static_cast<float>(outer * (1 - half_r));
  args.predictor[2] = static_cast<float>(outer * half_r);
}

void UniPc::advance(SolverState& state, const Velocity& velocity, StreamRef stream) const {
  const auto k = static_cast<size_t>(state.step);
  LT_CHECK(k + 1 < schedule_.sigmas.size(), "all {} steps are done", schedule_.steps());
  const Shape shape = state.latent.shape();
  if (!state.last) state.last = OwnedTensor(DType::f32, shape, stream.device());
  OwnedTensor fresh(DType::f32, shape, stream.device());
  SolverStepArgs args;
  args.conditional = velocity.conditional;
  args.unconditional = velocity.unconditional;
  args.unconditional_weight = static_cast<float>(1.0 - velocity.scale);
  args.conditional_weight = static_cast<float>(velocity.scale);
  args.latent = state.latent;
  args.minus_sigma = -schedule_.sigmas[k];
  args.data = fresh;
  args.last = state.last;
  if (state.data_1) args.data_1 = state.data_1;
  if (state.data_2) args.data_2 = state.data_2;
  if (state.step > 0) correct(state, args);
  predict(state, args);
  solver_step(args, stream);
  state.data_2 = std::move(state.data_1);
  state.data_1 = std::move(fresh);
  ++state.step;
}

}  // namespace longtake
