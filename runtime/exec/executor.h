// Carries out one rank's instructions: a small function for each, no decisions.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "parallel/attention/worker_gate.h"
#include "parallel/comm/channel.h"
#include "parallel/plan/plan.h"
#include "runtime/context/block_store.h"
#include "runtime/context/feature_cache.h"
#include "runtime/exec/queue_state.h"
#include "runtime/exec/trace.h"
#include "runtime/model/stage_model.h"
#include "runtime/sampler/solver.h"

namespace longtake {

struct ExecutorSpec {
  PlanSpec plan;
  RankId rank;
  int64_t channels = 0, height = 0, width = 0;  // of a latent frame
  int channel_depth = 2;                        // buffers of each end of a channel
  int64_t begin = 0;                            // first sweep; later ones need `state`
};

// What the executor works with; all of it outlives it.
struct ExecutorParts {
  StageModel* model = nullptr;
  const Solver* solver = nullptr;
  Transport* transport = nullptr;              // may be null for one rank
  AttentionExchange* exchange = nullptr;       // null: self-attention is computed here
  WorkerGate* gate = nullptr;                  // open while this rank waits for a message
  SideCopies* offload = nullptr;               // features lie in host memory; null: beside the rest
  std::function<void(BlockId, Tensor)> noise;  // f32 [channels, frames, h, w]
  std::function<int64_t(BlockId)> prompt_of;
  std::function<void(BlockId, ConstTensor)> emit;  // finished latents; copies what it keeps
  std::function<void(int64_t visits)> progress;    // visits done on this rank; may be empty
  const StateSource* state = nullptr;              // for a run that goes on or is made longer
  // Between two sweeps, with the next one: false, after a drain(), ends the run there. May be
  // empty.
  std::function<bool(int64_t sweep)> after_sweep;
};

class Executor {
 public:
  Executor(const ExecutorSpec& spec, const ExecutorParts& parts, StreamRef stream);
  ~Executor();

  void run();
  // What this rank adds to the state between two sweeps; the last stage of the conditional branch
  // has the latents. Features are shared, not copied: they stay until all shares are given up.
  QueueState snapshot(int64_t sweep) const;
  // Receives what is still on its way to this rank when the run ends before sweep `sweep`.
  void drain(int64_t sweep);
  // The instruction being carried out and for how long; from any thread.
  std::string in_flight() const;

  const Trace& trace() const { return trace_; }
  const WorkClock& clock() const { return clock_; }
  const FeatureCache& features() const { return features_; }
  double run_seconds() const { return run_s_; }
  // Buffers of the run, weights and features in host memory left out.
  size_t buffer_bytes() const;

 private:
  void issue(const Admit& i);
  void issue(const Recall& i);
  void issue(const Embed& i);
  void issue(const Recv& i);
  void issue(const Send& i);
  void issue(const Forward& i);
  void issue(const Head& i);
  void issue(const SolverStep& i);
  void issue(const Emit& i);
  void issue(const ReleaseFeatures& i) { features_.release(i.features); }
  void issue(const ReleaseLatent& i) { latents_.release(i.latent); }
  void issue(const ReleaseSolver& i) { solvers_.erase(i.block); }

  const void* receive(ReceiveChannel& channel, size_t bytes, const std::string& what);
  void carry_out(const Instruction& instruction);
  void look_ahead(const PlanMaker& maker, const std::vector<Instruction>& sweep, size_t at);
  void open_channels();
  void restore(const StateSource& from);
  void restore(const StateSource& from, const Features& features);
  void recall(const StateSource& from, const Latent& finished);
  SolverState restored_solver(const StateSource& from, BlockId block) const;
  Shape latent_shape(int64_t frames) const {
    return {spec_.channels, frames, spec_.height, spec_.width};
  }
  int64_t own_frames(BlockId block) const { return spec_.plan.layout.frames(block); }
  int64_t tokens(BlockId block) const;
  Tensor x(size_t branch, BlockId block);
  int64_t local_branches() const { return static_cast<int64_t>(branches_.size()); }
  struct Link;
  Link& link(Payload payload, RankId peer);

  ExecutorSpec spec_;
  ExecutorParts parts_;
  WorkClock clock_;
  StreamRef stream_;
  std::vector<StageModel::Branch> branches_;  // that this rank computes
  int64_t tokens_per_frame_ = 0, most_frames_ = 0;
  std::vector<OwnedTensor> x_;         // per local branch: f32 [most tokens, dim]
  std::vector<OwnedTensor> velocity_;  // per guidance branch: f32 latent shape of the block
  BlockStore latents_;
  FeatureCache features_;
  std::optional<Forward> next_visit_;  // after the instruction under way, for offloaded features
  std::map<BlockId, SolverState> solvers_;
  std::map<std::pair<Payload, RankId>, std::unique_ptr<Link>> links_;
  mutable std::mutex current_mutex_;
  std::optional<Instruction> current_;
  Trace::Clock::time_point current_start_;
  Trace trace_;
  double run_s_ = 0;
  int64_t visits_ = 0;
};

}  // namespace longtake
