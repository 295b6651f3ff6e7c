// Noise levels, timesteps and whole runs of the solvers on v = tanh(x) + sigma^2 - 0.3.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "runtime/sampler/solver.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

std::unique_ptr<Solver> solver_of(const nlohmann::json& run) {
  const int64_t steps = run.at("steps");
  const double shift = run.at("shift");
  if (run.at("scheduler") == "unipc") return std::make_unique<UniPc>(steps, shift);
  return std::make_unique<Euler>(steps, shift);
}

OwnedTensor as_floats(const OwnedTensor& x) {
  OwnedTensor out(DType::f32, x.shape());
  for (int64_t i = 0; i < x.numel(); ++i)
    out.as<float>()[i] =
        x.dtype() == DType::i64 ? static_cast<float>(x.as<int64_t>()[i]) : x.as<float>()[i];
  return out;
}

}  // namespace

void run_scheduler_case(GoldenCase& golden) {
  const OwnedTensor start = golden.expected("start");
  for (const auto& run : golden.json().at("runs")) {
    const std::string key = run.at("key");
    const auto solver = solver_of(run);
    const Schedule& schedule = solver->schedule();
    const OwnedTensor states = golden.expected(key + ".states");
    OwnedTensor sigmas(DType::f32, {schedule.steps() + 1}),
        timesteps(DType::f32, {schedule.steps()});
    std::copy(schedule.sigmas.begin(), schedule.sigmas.end(), sigmas.as<float>());
    std::copy(schedule.timesteps.begin(), schedule.timesteps.end(), timesteps.as<float>());
    // wan.md 6.2: the last bit of an unshifted fp32 linspace may differ, 6e-8 in sigma, 6e-5 in t.
    golden.compare(key + ".sigmas", sigmas, golden.expected(key + ".sigmas"), 6e-8);
    golden.compare(key + ".timesteps", timesteps, as_floats(golden.expected(key + ".timesteps")),
                   6.2e-5);

    SolverState state;
    state.latent = to_device(start, test_stream());
    OwnedTensor got(DType::f32, states.shape()), velocity(DType::f32, start.shape());
    for (int64_t k = 0; k < schedule.steps(); ++k) {
      const double sigma = schedule.sigmas[static_cast<size_t>(k)];
      const OwnedTensor x = to_host(state.latent, test_stream());
      for (int64_t i = 0; i < start.numel(); ++i)
        velocity.as<float>()[i] =
            static_cast<float>(std::tanh(double{x.as<float>()[i]}) + sigma * sigma - 0.3);
      const OwnedTensor v = to_device(velocity, test_stream());
      solver->advance(state, v, test_stream());
      const OwnedTensor next = to_host(state.latent, test_stream());
      std::memcpy(got.as<float>() + k * start.numel(), next.as<float>(), start.bytes());
    }
    golden.compare(key + ".states", got, states, run.at("tolerance").at("max_abs"));
  }
}

}  // namespace longtake::testing
