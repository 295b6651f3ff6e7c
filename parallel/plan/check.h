// Plays all ranks of a plan before anything runs. Proves that every Send has its Recv in the same
// order on its channel, that what is read exists, that everything made is given back once, that
// each visit is done once on every stage with the context that the rule demands, that blocks are
// emitted once and in order, and that bounded channels do not deadlock. (Ranks run in order and
// wait only for channels, so if one interleaving ends, all do.)
#pragma once

#include <span>
#include <vector>

#include "parallel/plan/check_rank.h"

namespace longtake {

struct CheckReport {
  std::vector<RankPeak> peaks;  // [ranks]
  int64_t instructions = 0;     // of all ranks
  int64_t visits = 0;           // on each rank
  int64_t emitted = 0;          // blocks
};

// Feed it sweep by sweep: what was played is forgotten.
class PlanChecker {
 public:
  // A channel holds `depth` messages at each end, one of which is in use.
  explicit PlanChecker(const PlanSpec& spec, int64_t depth = channel_depth);
  PlanChecker(const PlanChecker&) = delete;
  PlanChecker& operator=(const PlanChecker&) = delete;

  void add(RankId rank, std::span<const Instruction> list);
  void add_sweep(const PlanMaker& maker);  // of all ranks
  // Goes on until no rank can. Fails with ExitCode::error, naming rank, index and instruction.
  void play();
  // After the last sweep of a bounded video: nothing may be left.
  CheckReport finish();
  CheckReport report() const;  // so far

 private:
  struct Message {
    BlockId block;
    StepId step;
  };
  // What is on its way to a rank, one payload.
  struct Inbox {
    std::vector<Message> ring;
    size_t begin = 0, size = 0;
  };
  struct Backlog {
    std::vector<Instruction> list;
    size_t next = 0;
    bool empty() const { return next == list.size(); }
  };

  std::vector<Instruction>& open_backlog(RankId rank);
  bool step(size_t rank);
  bool ready(const Recv& recv, const RankChecker& rank);
  Inbox& inbox(RankId to, Payload payload) {
    return inboxes_[static_cast<size_t>(3 * to.value + static_cast<int>(payload))];
  }
  [[noreturn]] void refuse_deadlock() const;

  PlanSpec spec_;
  VisitOracle oracle_;
  std::vector<RankChecker> ranks_;
  std::vector<Backlog> backlogs_;
  std::vector<Inbox> inboxes_;  // [ranks][payloads]
};

// All ranks' lists of a bounded video.
CheckReport check(const PlanSpec& spec, std::span<const std::vector<Instruction>> plans,
                  int64_t depth = channel_depth);

// Makes the plan and checks it sweep by sweep, at most `sweeps` of them: all of a bounded video, or
// the beginning of any.
CheckReport check_made(const PlanSpec& spec, std::optional<int64_t> sweeps = {},
                       int64_t depth = channel_depth);

}  // namespace longtake
