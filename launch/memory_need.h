// Memory that a run cannot do without, against what the machine has: settings that each are in
// range can be absurd together, and are then refused before anything is loaded.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "parallel/partition.h"
#include "parallel/plan/plan.h"
#include "runtime/model/model_config.h"

namespace longtake {

struct MemoryNeed {
  const TransformerConfig* transformer = nullptr;
  PlanSpec plan;  // total_frames set
  RankId rank;
  UnitRange units;  // of the rank's stage
  DType compute = DType::f32;
  int64_t height = 0, width = 0;  // of a latent frame
};

// Bytes that the rank writes to and holds at one moment of any run: a block's tokens, once per
// guidance branch, and what one layer makes of them. A lower bound: weights, features of
// neighbours, latents and the VAE come on top, so that nothing that fits is ever refused.
uint64_t least_bytes(const MemoryNeed& need);

// Memory and swap of this machine.
uint64_t machine_bytes();

}  // namespace longtake
