// Commits of the queue's state while a run goes on, and stopping it at one of them
// (reliability.md 1.3).
//
// After every sweep each rank sends a short vote to the rank that finishes blocks, the committer,
// which sends back what all do after the next sweep: nothing, a checkpoint, or a checkpoint and
// stop. Nobody waits for that: the votes come from ranks that are ahead, the decision is a sweep
// old. At a checkpoint each rank shares its part of the state, a thread writes and publishes it,
// and a later vote brings the committer its size and hash; when it has all of them, it commits.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "parallel/comm/channel.h"
#include "parallel/plan/plan.h"
#include "runtime/exec/queue_state.h"
#include "runtime/stream/commit_log.h"

namespace longtake {

struct CheckpointSpec {
  PlanSpec plan;
  RankId rank;
  std::filesystem::path run;
  int64_t epoch = 1;
  int64_t begin = 0;  // first sweep of this process
  // Finished blocks between two states; 0: as often as costs at most `share` of the time.
  int64_t every_blocks = 0;
  double share = 0.01;
  bool enabled = true;  // false: no states and no stopping
};

class Checkpointer {
 public:
  using Snapshot = std::function<QueueState(int64_t sweep)>;
  // Receives what is still on its way to this rank when `sweep` does not come any more.
  using Drain = std::function<void(int64_t sweep)>;
  // What asks this run to stop, given the seconds until it would: empty, or a word for the log.
  using StopReason = std::function<std::string(double ahead_s)>;
  using Commit = std::function<void(CommittedState)>;  // on the committer

  // transport: null for one rank.
  Checkpointer(const CheckpointSpec& spec, Transport* transport, Snapshot snapshot, Drain drain,
               StopReason stop_reason, Commit commit);
  ~Checkpointer();

  // Between two sweeps, with the next one; false: the state is on its way to the log, stop here.
  bool after_sweep(int64_t sweep);
  // After the last sweep: parts that nobody waits for any more are removed.
  void finish();

  const std::string& stopped_by() const { return reason_; }  // empty: not stopped
  int64_t checkpoints() const { return checkpoints_; }
  double seconds() const { return seconds_; }            // that denoising waited for it
  double write_seconds() const { return write_s_; }      // of this rank, beside denoising
  uint64_t state_bytes() const { return state_bytes_; }  // of its last part

 private:
  enum class Action : int32_t { go_on, checkpoint, stop };
  struct Vote {
    int64_t settled_sweep = -1;  // of the part that is published
    uint64_t bytes = 0;
    double cost_s = 0;
    char sha256[64] = {};
    char reason[32] = {};  // to stop; empty: none
  };
  struct Part;  // being written
  struct Links;

  bool is_committer() const;
  bool between_sweeps(int64_t sweep);
  Action exchange(int64_t sweep);
  void exchange_votes();
  Vote vote();
  void take_votes(const std::vector<Vote>& votes);
  Action decide(int64_t next_sweep, bool busy);
  void begin_part(int64_t sweep);

  CheckpointSpec spec_;
  Snapshot snapshot_;
  Drain drain_;
  StopReason stop_reason_;
  Commit commit_;
  std::unique_ptr<Links> links_;
  std::unique_ptr<Part> part_;
  Action action_ = Action::go_on;  // after the sweep that comes next
  std::string reason_;             // why it is stop
  std::chrono::steady_clock::time_point last_checkpoint_, last_sweep_;
  double sweep_s_ = 0, cost_s_ = 0, write_s_ = 0, seconds_ = 0;
  uint64_t state_bytes_ = 0;
  int64_t checkpoints_ = 0, checkpoint_blocks_ = 0;
  // Of the committer: the state that is being written and what is settled of it.
  std::optional<CommittedState> open_;
  int64_t settled_ = 0;
  std::string wants_stop_;  // a reason that some rank gave
};

}  // namespace longtake
