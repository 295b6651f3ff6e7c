// How the layers are shared out among the stages of a run.
#pragma once

#include <vector>

#include "parallel/partition.h"
#include "parallel/plan/plan.h"
#include "runtime/model/model_config.h"

namespace longtake {

struct StageCostInput {
  const TransformerConfig* transformer = nullptr;
  const VaeConfig* vae = nullptr;  // null: the last stage does not decode
  PlanSpec plan;
  int64_t height = 0, width = 0;  // of a latent frame
};

// Every rank comes to the same split: it follows from the shapes alone. It changes no bit of the
// result.
std::vector<StageUnits> share_out_layers(const StageCostInput& input);

}  // namespace longtake
