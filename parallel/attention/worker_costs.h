// Costs of a pipeline whose ranks share a pool of attention workers: a visit takes what balance()
// makes of its layers. The pool's time is cut into consecutive pieces, one for each rank, so that
// few workers are shared: what a rank has of one is a worker of that part of its speed and link.
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

  struct Served {
    WorkerShare share;  // of the worker with this index in the pool
    double part = 0;    // of the worker's time that is this rank's
  };
  struct Visit {
    double seconds = 0;
    std::vector<Served> workers;
  };
  const Visit& balanced(RankId rank, const VisitShape& visit) const;
  const std::vector<WorkerKind>& pool() const { return pool_; }

 private:
  struct Piece {
    int worker;
    double part;
  };
  std::vector<double> shares(double pool_speed) const;
  std::vector<std::vector<Piece>> pieces() const;
  std::vector<WorkerRate> rates(RankId rank) const;
  Visit balance_visit(RankId rank, const VisitShape& visit) const;

  PlanSpec plan_;
  ModelShape model_;
  HardwareProfile hardware_;
  std::vector<WorkerKind> pool_;
  std::vector<std::vector<Piece>> pieces_;  // [ranks]
  mutable std::map<std::tuple<int64_t, int64_t, int64_t>, Visit> visits_;
};

}  // namespace longtake
