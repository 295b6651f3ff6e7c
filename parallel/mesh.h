// Ranks as coordinates: stages of layers x guidance branches. With one branch a rank computes both
// passes of its stage; with two there is a pipeline for each.
#pragma once

#include "parallel/ids.h"

namespace longtake {

struct Mesh {
  int64_t stages = 1;
  int64_t branches = 1;  // 1 or 2

  int64_t ranks() const { return stages * branches; }
  RankId rank(StageId stage, BranchId branch) const {
    return {branch.value * stages + stage.value};
  }
  StageId stage(RankId rank) const { return {rank.value % stages}; }
  BranchId branch(RankId rank) const { return {rank.value / stages}; }
  bool first(RankId rank) const { return stage(rank).value == 0; }
  bool last(RankId rank) const { return stage(rank).value == stages - 1; }
  bool operator==(const Mesh&) const = default;
};

}  // namespace longtake
