// A model's numbers without its weights: from its folder, or from a table of configs/models.
#pragma once

#include <optional>
#include <string>

#include "kernels/base/dtype.h"
#include "launch/run_config.h"
#include "parallel/cost/model_shape.h"
#include "runtime/model/model_config.h"

namespace longtake {

struct ModelSizes {
  std::string name;
  TransformerConfig transformer;
  std::optional<VaeConfig> vae;
  int64_t experts = 1;
};

ModelSizes sizes_of(const ModelFolder& folder);
// What the configuration says: its model folder where there is one (weights may be missing), else
// its `model_sizes`. Fails with missing_input, saying what was looked for.
ModelSizes find_model_sizes(const RunConfig& config);

// Of latents of height x width; `decodes`: the run makes frames.
ModelShape shape_of(const ModelSizes& sizes, int64_t height, int64_t width, DType compute,
                    bool decodes);

}  // namespace longtake
