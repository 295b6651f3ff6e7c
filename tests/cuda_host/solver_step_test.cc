// The solver's fused step on the host, against the same step made of linear combinations.
#include "tests/support/cuda_shim.h"
// The shim comes first.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/cuda/solver_step_args.h"
#include "kernels/cuda/solver_step_kernel.cuh"
#include "tests/support/random.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {

namespace {

struct State {
  OwnedTensor latent, last, data;
  explicit State(int64_t n)
      : latent(random_tensor({n}, 1)), last(random_tensor({n}, 2)), data(DType::f32, {n}) {}
};

SolverStepArgs args_of(State& s) {
  SolverStepArgs a;
  a.latent = s.latent, a.last = s.last, a.data = s.data;
  return a;
}

void run_kernel(const SolverStepArgs& a) {
  constexpr unsigned kThreads = 64;
  const cuda::SolverStepView view = cuda::view_of(a);
  const auto blocks = static_cast<unsigned>((view.n + kThreads - 1) / kThreads);
  run_on_host({blocks, 1, 1}, {kThreads, 1, 1}, 0, [&] { cuda::solver_step_kernel(view); });
}

// Numbers below 1 and weights below 2: at most eight roundings of sums below 10.
void check_close(const OwnedTensor& a, const OwnedTensor& b) {
  constexpr double kBound = 8 * 10 * 0x1p-24;
  double worst = 0;
  for (int64_t i = 0; i < a.numel(); ++i)
    worst = std::max(worst, std::abs(double{a.as<float>()[i]} - b.as<float>()[i]));
  CHECK(worst <= kBound);
}

void check_step(int64_t n, bool guided, int corrector, int predictor) {
  CAPTURE(n);
  CAPTURE(guided);
  CAPTURE(corrector);
  CAPTURE(predictor);
  const OwnedTensor c = random_tensor({n}, 3), u = random_tensor({n}, 4);
  const OwnedTensor d1 = random_tensor({n}, 5), d2 = random_tensor({n}, 6);
  State fused(n), parts(n);
  const auto fill = [&](SolverStepArgs a) {
    a.conditional = c;
    if (guided) a.unconditional = u;
    a.unconditional_weight = -0.75f, a.conditional_weight = 1.75f, a.minus_sigma = -0.6f;
    a.corrector_terms = corrector, a.predictor_terms = predictor;
    a.data_1 = d1, a.data_2 = d2;
    const float weight[4] = {0.9f, -0.4f, 0.7f, 0.2f};
    for (int k = 0; k < 4; ++k) a.corrector[k] = weight[k];
    for (int k = 0; k < 3; ++k) a.predictor[k] = weight[k + 1];
    return a;
  };

  run_kernel(fill(args_of(fused)));
  solver_step(fill(args_of(parts)), host_stream());

  check_close(fused.latent, parts.latent);
  check_close(fused.last, parts.last);
  check_close(fused.data, parts.data);
}

}  // namespace

TEST_CASE("cuda solver step agrees with its parts") {
  for (const int64_t n : {1, 63, 64, 65, 1000})
    for (const bool guided : {false, true})
      for (const int corrector : {0, 3, 4})
        for (const int predictor : {1, 2, 3}) check_step(n, guided, corrector, predictor);
}

}  // namespace longtake::testing
