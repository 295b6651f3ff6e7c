// What a run computes with, as text: runs are continued, and ranks work together, only when it is
// the same.
#pragma once

#include <string>

#include "kernels/base/dtype.h"
#include "launch/run_config.h"
#include "runtime/model/model_config.h"

namespace longtake {

// "weights: <SHA-256>" over sizes, headers and samples of the contents of all files that shape the
// latents: a few MB of each are read.
std::string input_digest(const RunConfig& config, const ModelFolder& folder);

// "numerics: ...": device, vector instructions, precision and the library of matrix products. Other
// ones may round differently.
std::string numerics(DType compute, DeviceChoice device);

// Of attention alone, in any precision: where it is the same, workers compute the same bits.
std::string attention_numerics(DeviceChoice device);

}  // namespace longtake
