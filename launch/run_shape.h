// What a configuration asks of a model: latents, schedule and mesh. No weights, no ranks.
#pragma once

#include "launch/model_sizes.h"
#include "launch/run_config.h"
#include "parallel/cost/hardware_profile.h"
#include "parallel/plan/plan.h"
#include "runtime/model/stage_model.h"

namespace longtake {

struct RunShape {
  int64_t channels = 0, frames = 0, height = 0, width = 0;  // latents of the whole video
  PlanSpec plan;                                            // without its mesh
};

Guidance guidance_of(const RunConfig& config);

// Fails with ExitCode::usage when the video's size does not suit the model.
RunShape run_shape(const RunConfig& config, const ModelSizes& sizes);

// The numbers of the model in this run.
ModelShape model_shape(const RunConfig& config, const ModelSizes& sizes, const RunShape& shape);

// Sweeps after which no rank holds more than before: all blocks in flight, and one that has left.
std::optional<int64_t> sweeps_to_peak(const PlanSpec& plan);

// The most bytes that a rank of plan.mesh needs.
double largest_peak_bytes(const PlanSpec& plan, const ModelShape& model,
                          const HardwareProfile& hardware);

// The sub-layers of each stage: of the splits that give the last stage less or more work for the
// decoding it does beside, the one whose simulation ends first. The same wherever the same numbers
// are given; it changes no bit of the result.
std::vector<StageUnits> split_layers(const PlanSpec& plan, const ModelShape& model,
                                     const HardwareProfile& hardware);

// What `parallel` says, else the best use of at most `ranks`. Two pipelines, one per guidance
// branch, where both fit in the memory of `hardware` and are not slower than one pipeline of all
// ranks (they are where one branch's last stage has much to decode). Never more stages than
// sub-layers.
Mesh choose_mesh(const RunConfig& config, int64_t ranks, const PlanSpec& plan,
                 const ModelShape& model, const HardwareProfile& hardware);

}  // namespace longtake
