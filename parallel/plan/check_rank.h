// One rank of a plan under `check`: what it holds, and whether it may do the next instruction.
#pragma once

#include <optional>
#include <string>

#include "parallel/plan/live_set.h"
#include "parallel/plan/plan.h"
#include "parallel/plan/visit_oracle.h"

namespace longtake {

// The most that was alive at once on a rank.
struct RankPeak {
  int64_t latents = 0, heads = 0, tails = 0, solvers = 0;
  bool operator==(const RankPeak&) const = default;
};

class RankChecker {
 public:
  RankChecker(const PlanSpec& spec, RankId rank, VisitOracle& oracle);

  // Fails, naming rank, index and instruction, if the rule or the rank's state forbid it. Messages
  // are matched by the caller.
  void apply(const Instruction& instruction);
  // Fails if something is left to do or to give back.
  void finish();

  RankId rank() const { return rank_; }
  int64_t index() const { return index_; }  // of the next instruction
  int64_t sweep() const { return sweep_; }  // of the next visit
  int64_t visits() const { return visits_; }
  int64_t emitted() const { return next_emit_ - spec_.layout.first_block; }
  const RankPeak& peak() const { return peak_; }

  // Where the instruction stands, for messages.
  std::string place(const Instruction& instruction) const;

 private:
  struct Visit {
    BlockId block;
    StepId step;
    bool operator==(const Visit&) const = default;
  };
  enum class Tokens { none, input, output };

  void issue(const Admit& i);
  void issue(const Recall& i);
  void issue(const Embed& i);
  void issue(const Recv& i);
  void issue(const Send& i);
  void issue(const Forward& i);
  void issue(const Head& i);
  void issue(const SolverStep& i);
  void issue(const Emit& i);
  void issue(const ReleaseFeatures& i);
  void issue(const ReleaseLatent& i);
  void issue(const ReleaseSolver& i);

  void require(bool condition, const char* expected) const {
    if (!condition) refuse(expected);
  }
  [[noreturn]] void refuse(const std::string& expected) const;
  RankId peer(Payload payload, bool sending) const;
  const ExpectedVisit* next_visit();
  void expect_visit(BlockId block, StepId step);
  uint64_t key(Held held, BlockId block, StepId step) const;
  void make(Held held, BlockId block, StepId step);
  void make_latent(BlockId block, StepId version);
  void read(Held held, BlockId block, StepId step);
  void release(Held held, BlockId block, StepId step, bool must_be_read);
  int64_t& count(Held held, RankPeak& in) const;
  int64_t final_version(BlockId block) const;

  PlanSpec spec_;
  RankId rank_;
  bool first_, last_;
  ContextRule rule_;
  VisitOracle* oracle_;
  const Instruction* current_ = nullptr;

  LiveSet live_;
  RankPeak now_, peak_;
  Tokens tokens_ = Tokens::none;
  Visit tokens_of_;
  std::optional<Visit> velocity_, other_velocity_;
  bool velocity_sent_ = false;
  int64_t index_ = 0, sweep_ = 0, in_sweep_ = 0, visits_ = 0;
  int64_t next_admit_, next_emit_;  // blocks
  bool recalled_ = false;
};

}  // namespace longtake
