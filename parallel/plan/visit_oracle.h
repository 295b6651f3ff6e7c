// The visits that the rules demand, sweep by sweep, for `check`: computed from the staircase itself
// (tests/golden/data/block_queue/README.md) and not shared with make_plan, so that a mistake in one
// of the two shows.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "parallel/plan/plan.h"

namespace longtake {

struct ExpectedVisit {
  BlockId block;
  StepId step;
  std::optional<Latent> latent_prefix;
  std::optional<Features> prefix, suffix;
};

class VisitOracle {
 public:
  explicit VisitOracle(const PlanSpec& spec);

  bool exists(BlockId block) const {
    return block.value >= first_block_ && (!blocks_ || block.value < *blocks_);
  }
  // Empty if the video ends before this sweep; fails if the sweep was forgotten.
  const std::vector<ExpectedVisit>& sweep(int64_t index);
  bool past_the_end(int64_t index) const;
  void forget_before(int64_t index);

 private:
  std::vector<ExpectedVisit> visits(int64_t index) const;
  ExpectedVisit visit(int64_t index, int64_t block) const;

  ContextRule rule_;
  int64_t steps_, stagger_, first_block_;
  std::optional<int64_t> blocks_;
  int64_t base_ = 0;  // index of window_[0]
  std::deque<std::vector<ExpectedVisit>> window_;
};

}  // namespace longtake
