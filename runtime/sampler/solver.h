// Solvers of the flow ODE. The state of a block is its own: any number of blocks can be at any
// step.
#pragma once

#include <memory>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"
#include "kernels/solver_step.h"
#include "runtime/sampler/schedule.h"

namespace longtake {

// Latents of a block and the history the next step needs. `step` counts the steps done (the
// version).
struct SolverState {
  OwnedTensor latent;          // f32, any shape, on the stream's device
  OwnedTensor last;            // corrected latents of the step before
  OwnedTensor data_1, data_2;  // predictions of the clean latents, one and two steps ago
  int64_t step = 0;
};

// The model's output for a step: of the conditional branch, and guided where there is another:
// v = u + scale (c - u).
struct Velocity {
  ConstTensor conditional, unconditional;
  double scale = 1;
};

class Solver {
 public:
  explicit Solver(Schedule schedule) : schedule_(std::move(schedule)) {}
  virtual ~Solver() = default;
  const Schedule& schedule() const { return schedule_; }

  // Takes state.latent from version `step` to step + 1; the velocity is f32, the model's output at
  // (state.latent, timesteps[step]).
  virtual void advance(SolverState& state, const Velocity& velocity, StreamRef stream) const = 0;
  void advance(SolverState& state, ConstTensor velocity, StreamRef stream) const {
    advance(state, Velocity{velocity, {}, 1}, stream);
  }

 protected:
  Schedule schedule_;
};

// UniPC, order 2, bh2, flow prediction, lower order at the last step (wan.md 6.1).
class UniPc : public Solver {
 public:
  UniPc(int64_t steps, double shift) : Solver(unipc_schedule(steps, shift)) {}
  using Solver::advance;
  void advance(SolverState& state, const Velocity& velocity, StreamRef stream) const override;

 private:
  void correct(const SolverState& state, SolverStepArgs& args) const;
  void predict(const SolverState& state, SolverStepArgs& args) const;
};

class Euler : public Solver {
 public:
  Euler(int64_t steps, double shift) : Solver(euler_schedule(steps, shift)) {}
  using Solver::advance;
  void advance(SolverState& state, const Velocity& velocity, StreamRef stream) const override;
};

}  // namespace longtake
