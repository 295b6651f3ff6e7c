// Specs for the tests of plans: exact ones and random ones.
#pragma once

#include <algorithm>
#include <random>
#include <string>

#include "kernels/base/error.h"
#include "parallel/plan/plan.h"

namespace longtake::testing {

// M blocks of 2 frames that share one.
inline PlanSpec plan_spec(Mesh mesh, ContextRule rule, int64_t steps, int64_t stagger,
                          std::optional<int64_t> blocks) {
  PlanSpec spec;
  spec.mesh = mesh;
  spec.layout = {2, 1, {}};
  if (blocks) spec.layout.total_frames = 2 * *blocks + 1;
  spec.steps = steps;
  spec.stagger = stagger;
  spec.rule = rule;
  return spec;
}

// The same blocks, but after a finished video.
inline void go_on(PlanSpec& spec, int64_t finished_blocks, int64_t finished_frames) {
  BlockLayout& layout = spec.layout;
  layout.first_block = finished_blocks;
  layout.finished_frames = finished_frames;
  if (layout.total_frames)
    layout.total_frames =
        finished_frames + std::max<int64_t>(1, *layout.total_frames - layout.context_frames);
}

// Any rule, also starving meshes, short last blocks, no context, one block, stagger beyond steps.
inline PlanSpec random_spec(std::mt19937_64& random) {
  const auto pick = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  PlanSpec spec;
  spec.mesh = {pick(1, 9), pick(1, 2)};
  spec.layout.block_frames = pick(1, 6);
  spec.layout.context_frames = pick(0, spec.layout.block_frames);
  spec.layout.total_frames = pick(1, 12 * spec.layout.block_frames);
  spec.steps = pick(1, 24);
  spec.stagger = pick(1, pick(1, 4) == 1 ? 30 : 4);
  spec.rule = static_cast<ContextRule>(pick(0, 3));
  return spec;
}

inline std::string describe(const PlanSpec& spec) {
  return fmt::format(
      "stages {} branches {} rule {} steps {} stagger {} block {} context {} total {} after {} "
      "blocks "
      "of {}",
      spec.mesh.stages, spec.mesh.branches, name(spec.rule), spec.steps, spec.stagger,
      spec.layout.block_frames, spec.layout.context_frames, spec.layout.total_frames.value_or(-1),
      spec.layout.first_block, spec.layout.finished_frames);
}

}  // namespace longtake::testing
