// Costs of a pipeline whose ranks share a pool of attention workers: a visit takes what balance()
// makes of its layers. Every worker serves every rank, each for a share of its time.
#pragma once

#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "parallel/attention/balance.h"
#include "parallel/cost/cost_model.h"

namespace longtake {

// `count` workers: first the kinds that cannot be anything else, then devices like the ranks'.
std::vector<WorkerKind> worker_pool(const HardwareProfile& hardware, int64_t count);

// One call of self-attention, as balance() takes it.
BranchWork attention_call(const ModelShape& model, const VisitShape& visit,
                          const HardwareProfile& hardware, double own_s);

// Used by one thread: visits of one shape are balanced once.
class WorkerCosts : public CostModel {
 public:
  WorkerCosts(const PlanSpec& plan, const ModelShape& model, const HardwareProfile& hardware,
              const std::vector<StageUnits>& stages, std::vector<WorkerKind> pool);

  double seconds(RankId rank, const Instruction& instruction) const override;

  struct Visit {
    double seconds = 0;
    std::vector<WorkerShare> workers;  // by index in the pool; a share may be empty
  };
  const Visit& balanced(RankId rank, const VisitShape& visit) const;
  // Of the pool's time, what a rank of this stage gets.
  double share(int64_t stage) const { return share_[static_cast<size_t>(stage)]; }
  const std::vector<WorkerKind>& pool() const { return pool_; }

 private:
  std::vector<double> shared_out() const;
  std::vector<WorkerRate> rates(int64_t stage) const;
  Visit balance_visit(RankId rank, const VisitShape& visit) const;

  PlanSpec plan_;
  ModelShape model_;
  HardwareProfile hardware_;
  std::vector<WorkerKind> pool_;
  std::vector<double> share_;  // [stages]
  mutable std::map<std::tuple<int64_t, int64_t, int64_t>, Visit> visits_;
};

}  // namespace longtake
