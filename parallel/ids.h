// Strong integers: a block is never taken for a step, nor a stage for a rank.
#pragma once

#include <compare>
#include <cstdint>

namespace longtake {

template <class Tag>
struct Id {
  int64_t value = 0;
  auto operator<=>(const Id&) const = default;
};

using BlockId = Id<struct BlockTag>;    // position in the video
using StepId = Id<struct StepTag>;      // solver step; also a version: the number of steps done
using StageId = Id<struct StageTag>;    // position in the pipeline
using BranchId = Id<struct BranchTag>;  // 0 conditional, 1 unconditional
using RankId = Id<struct RankTag>;      // process of the pipeline

}  // namespace longtake
