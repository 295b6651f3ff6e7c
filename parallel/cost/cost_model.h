// Seconds and bytes of a plan's instructions from the numbers of model and hardware: pure functions
// for `simulate`. Buffers are counted as the executor allocates them.
#pragma once

#include <vector>

#include "parallel/cost/sub_layer_cost.h"
#include "parallel/partition.h"
#include "parallel/plan/simulate.h"

namespace longtake {

// Of a whole block between two others, in one branch.
VisitShape full_visit(const PlanSpec& plan, const ModelShape& model);

// The best split for full visits; the last stage also decodes, once in plan.steps visits.
std::vector<StageUnits> share_out_units(const PlanSpec& plan, const ModelShape& model,
                                        const HardwareProfile& hardware);

class CostModel : public Costs {
 public:
  // stages: sub-layers of each stage.
  CostModel(const PlanSpec& plan, const ModelShape& model, const HardwareProfile& hardware,
            std::vector<StageUnits> stages);

  double seconds(RankId rank, const Instruction& instruction) const override;
  double link_seconds(RankId from, const Send& send) const override;
  double message_bytes(RankId from, const Send& send) const override;
  double latent_bytes(RankId rank, const Latent& latent) const override;
  double features_bytes(RankId rank, const Features& features) const override;
  double solver_bytes(RankId rank, BlockId block) const override;
  double background_seconds(RankId rank, const Instruction& instruction) const override;
  double spare_speed() const override { return hardware_.spare_speed; }
  double fixed_bytes(RankId rank) const override;

  double weight_bytes(RankId rank) const;
  double workspace_bytes() const;
  // What is small in large models: text keys, modulations, rotary tables, velocities.
  double table_bytes(RankId rank) const;
  VisitShape visit(const Forward& forward) const;
  double visit_seconds(RankId rank, const VisitShape& visit) const;
  // Self-attentions of a visit that the rank computes, by branch: the first of its own, and of the
  // unconditional one where it computes both.
  struct Calls {
    int64_t first = 0, second = 0;
  };
  Calls attention_calls(RankId rank) const;

 private:
  const StageUnits& units(RankId rank) const;
  int64_t units_of(RankId rank, SubLayer part) const;  // of all branches that the rank computes
  int64_t tokens(BlockId block) const;
  int64_t local_branches() const;
  double message_bytes(Payload payload, BlockId block) const;
  double block_bytes(BlockId block) const;  // latents, f32
  double decode_seconds(BlockId block) const;

  PlanSpec plan_;
  ModelShape model_;
  HardwareProfile hardware_;
  std::vector<StageUnits> stages_;
};

}  // namespace longtake
