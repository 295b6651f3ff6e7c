#include "runtime/sampler/schedule.h"

#include <cmath>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr double kTrainSteps = 1000.0;

double shifted(double u, double shift) {
  return shift * u / (1.0 + (shift - 1.0) * u);
}

void check(int64_t steps, double shift) {
  LT_CHECK(steps >= 1 && steps <= 1000, "1 to 1000 solver steps, not {}", steps);
  LT_CHECK(shift > 0 && std::isfinite(shift), "the flow shift must be positive, not {}", shift);
}

}  // namespace

Schedule unipc_schedule(int64_t steps, double shift) {
  check(steps, shift);
  Schedule out;
  for (int64_t k = 0; k < steps; ++k) {
    const double u =
        1.0 + static_cast<double>(k) * (1.0 / kTrainSteps - 1.0) / static_cast<double>(steps);
    double sigma = shifted(u, shift);
    if (std::abs(sigma - 1.0) < 1e-6) sigma -= 1e-6;
    out.sigmas.push_back(static_cast<float>(sigma));
    out.timesteps.push_back(std::trunc(kTrainSteps * sigma));
  }
  out.sigmas.push_back(0.0f);
  return out;
}

Schedule euler_schedule(int64_t steps, double shift) {
  check(steps, shift);
  Schedule out;
  const double last = static_cast<float>(shifted(1.0 / kTrainSteps, shift));
  for (int64_t k = 0; k < steps; ++k) {
    const double part = steps == 1 ? 0.0 : static_cast<double>(k) / static_cast<double>(steps - 1);
    const auto sigma = static_cast<float>(shifted(1.0 + (last - 1.0) * part, shift));
    out.sigmas.push_back(sigma);
    out.timesteps.push_back(static_cast<double>(static_cast<float>(kTrainSteps) * sigma));
  }
  out.sigmas.push_back(0.0f);
  return out;
}

}  // namespace longtake
