// What a rank holds between two sweeps of a plan: the state that a run needs to go on from there,
// on the same mesh or on another one.
#pragma once

#include <vector>

#include "parallel/plan/plan.h"

namespace longtake {

struct HeldState {
  std::vector<Latent> latents;
  std::vector<Features> features;  // the same on every rank, of the layers that it owns
  std::vector<BlockId> solvers;    // last stage only
};

// Before sweep `sweep`, in the order of making; as a rank holds it that begins there
// (PlanMaker(spec, sweep)): latents that would still be on their way to the first stage are held.
HeldState held_before(const PlanSpec& spec, RankId rank, int64_t sweep);

// Latents that are still on their way to this rank when sweep `sweep` > 0 comes next: a first stage
// that stops there receives them, so that no message is left behind.
std::vector<Latent> on_their_way(const PlanSpec& spec, RankId rank, int64_t sweep);

// Blocks that are finished when sweep `sweep` begins, with those before the plan's first.
int64_t finished_before(const PlanSpec& spec, int64_t sweep);

}  // namespace longtake
