// Noise levels and timesteps of a flow-matching solver (wan.md 6.1, 6.2).
#pragma once

#include <cstdint>
#include <vector>

namespace longtake {

struct Schedule {
  std::vector<float> sigmas;      // [steps + 1], the last is 0
  std::vector<double> timesteps;  // [steps], on the 0..1000 scale of the model

  int64_t steps() const { return static_cast<int64_t>(timesteps.size()); }
};

Schedule unipc_schedule(int64_t steps, double shift);  // timesteps truncated to integers
Schedule euler_schedule(int64_t steps,
                        double shift);  // FlowMatchEuler: shifted twice, not truncated

}  // namespace longtake
