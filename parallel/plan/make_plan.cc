// One sweep of one rank. The rules are those of tests/golden/data/block_queue/README.md.
//
// Latents come back from the last stage to the first in the order of the visits that made them.
// Each is received before its first reader, but no later than `latent_slack` visits after it can
// have arrived: otherwise a queue longer than the pipeline would fill the channel and deadlock.
#include <algorithm>

#include "kernels/base/error.h"
#include "parallel/plan/plan.h"

namespace longtake {

namespace {

// A visit leaves the last of N stages when the first begins the N-th visit after it. Two more keep
// the first stage from waiting for a late one; 2 * channel_depth - 1 messages fit in the channel.
constexpr int64_t latent_slack = channel_depth;

// The live blocks of one sweep in visiting order.
struct Sweep {
  int64_t index = 0, oldest = 0, newest = -1;
  bool newest_first = true;

  int64_t visits() const { return std::max<int64_t>(0, newest - oldest + 1); }
  BlockId at(int64_t k) const { return {newest_first ? newest - k : oldest + k}; }
  int64_t position(BlockId block) const {
    return newest_first ? newest - block.value : block.value - oldest;
  }
};

class SweepWriter {
 public:
  // begins: nothing was sent before this sweep.
  SweepWriter(const PlanSpec& spec, int64_t sweep, bool begins, RankId rank,
              std::vector<Instruction>& out)
      : mesh_(spec.mesh),
        rule_(spec.effective_rule()),
        steps_(spec.steps),
        stagger_(spec.effective_stagger()),
        blocks_(spec.layout.blocks()),
        first_block_(spec.layout.first_block),
        sweep_(live(sweep)),
        begins_(begins),
        rank_(rank),
        first_(spec.mesh.first(rank)),
        last_(spec.mesh.last(rank)),
        out_(out) {
    defers_ = mesh_.branches == 2 && mesh_.stages == 1;
  }

  void write() {
    const bool returns = first_ && mesh_.stages > 1;
    const std::vector<DueLatent> due = returns ? due_latents() : std::vector<DueLatent>{};
    auto next = due.begin();
    if (sweep_.index == 0 && first_ && latent_prefix({first_block_}, {0}))
      add(Recall{*latent_prefix({first_block_}, {0})});
    for (int64_t k = 0; k < sweep_.visits(); ++k) {
      const BlockId b = sweep_.at(k);
      const StepId s = step_of(sweep_.index, b);
      if ((first_ || last_) && s.value == 0) add(Admit{b});
      for (; next != due.end() && next->position <= k; ++next)
        add(Recv{Payload::latent, next->latent.block, next->latent.version, last_rank()});
      visit(b, s);
    }
    solve_deferred();
    LT_CHECK(next == due.end(), "sweep {} left latents behind", sweep_.index);
  }

 private:
  struct DueLatent {
    int64_t position;  // visit of this sweep before which it is received
    Latent latent;
  };

  template <class Op>
  void add(const Op& op) {
    out_.emplace_back(op);
  }
  StepId step_of(int64_t sweep, BlockId block) const {
    return {sweep - (block.value - first_block_) * stagger_};
  }
  bool exists(int64_t block) const { return !blocks_ || block < *blocks_; }
  RankId last_rank() const { return mesh_.rank({mesh_.stages - 1}, mesh_.branch(rank_)); }
  RankId first_rank() const { return mesh_.rank({0}, mesh_.branch(rank_)); }
  RankId other_branch() const {
    return mesh_.rank(mesh_.stage(rank_), {1 - mesh_.branch(rank_).value});
  }

  Sweep live(int64_t index) const {
    const int64_t unfinished = index - steps_ + 1;  // (b - first_block) r >= this
    const int64_t oldest = unfinished <= 0 ? 0 : (unfinished + stagger_ - 1) / stagger_;
    const int64_t entered = first_block_ + index / stagger_;
    const int64_t newest = blocks_ ? std::min(entered, *blocks_ - 1) : entered;
    return {index, first_block_ + oldest, newest, rule_ != ContextRule::causal};
  }

  bool kept_as_prefix(BlockId b) const {
    return rule_ == ContextRule::dualparal && exists(b.value + 1);
  }
  bool first_stage_reads(const Latent& latent) const {
    return latent.version.value < steps_ || kept_as_prefix(latent.block);
  }

  // Latents made in this sweep or the one before that the first stage receives in this one.
  std::vector<DueLatent> due_latents() const {
    std::vector<DueLatent> out;
    if (sweep_.visits() == 0) return out;
    const int64_t lag = mesh_.stages + latent_slack;
    if (!begins_) {
      const Sweep before = live(sweep_.index - 1);
      for (int64_t k = 0; k < before.visits(); ++k) {
        const Latent latent = made_by(before, k);
        const int64_t latest = k + lag - before.visits();
        if (latest >= 0 && first_stage_reads(latent))
          out.push_back({std::min(latest, first_reader(latent)), latent});
      }
    }
    for (int64_t k = 0; k + lag < sweep_.visits(); ++k) {
      const Latent latent = made_by(sweep_, k);
      if (first_stage_reads(latent)) out.push_back({k + lag, latent});
    }
    return out;
  }
  Latent made_by(const Sweep& sweep, int64_t k) const {
    const BlockId b = sweep.at(k);
    return {b, {step_of(sweep.index, b).value + 1}};
  }
  // Position in this sweep of the first visit that reads a latent of the sweep before.
  int64_t first_reader(const Latent& latent) const {
    const BlockId newer{latent.block.value + 1};
    const bool as_prefix = kept_as_prefix(latent.block) && newer.value <= sweep_.newest;
    return sweep_.position(as_prefix ? newer : latent.block);
  }

  void visit(BlockId b, StepId s) {
    if (first_)
      add(Embed{b, s, latent_prefix(b, s)});
    else
      add(Recv{Payload::tokens, b, s, {rank_.value - 1}});
    const Forward forward = forward_of(b, s);
    add(forward);
    if (!last_) {
      add(Send{Payload::tokens, b, s, {rank_.value + 1}});
      release_features(forward);
      if (first_) release_latents(b, s);
      return;
    }
    solve_deferred();
    add(Head{b, s});
    if (mesh_.branches == 2) add(Send{Payload::velocity, b, s, other_branch()});
    release_features(forward);
    deferred_ = Latent{b, s};
    if (!defers_) solve_deferred();
  }

  std::optional<Latent> latent_prefix(BlockId b, StepId s) const {
    if (rule_ == ContextRule::isolated || b.value == 0) return std::nullopt;
    if (b.value == first_block_) return Latent{{b.value - 1}, {steps_}};
    if (rule_ != ContextRule::dualparal) return std::nullopt;
    return Latent{{b.value - 1}, {std::min(s.value + stagger_, steps_)}};
  }

  Forward forward_of(BlockId b, StepId s) const {
    Forward out{b, s, std::nullopt, std::nullopt, false, false, false};
    const bool older = b.value > first_block_, newer = exists(b.value + 1);
    if (rule_ == ContextRule::dualparal || rule_ == ContextRule::aligned) {
      if (newer && s.value >= stagger_)
        out.suffix = Features{Edge::head, {b.value + 1}, {s.value - stagger_}};
      out.publish_head = older && s.value + stagger_ < steps_;
    }
    out.prefix_tokens = latent_prefix(b, s).has_value();
    if (rule_ == ContextRule::aligned) {
      if (older) out.prefix = Features{Edge::tail, {b.value - 1}, s};
      out.publish_tail = newer;
    }
    if (rule_ == ContextRule::causal) {
      const int64_t ahead = std::min(s.value + stagger_, steps_ - 1);
      if (older) out.prefix = Features{Edge::tail, {b.value - 1}, {ahead}};
      out.publish_tail = newer && (s.value >= stagger_ || s.value == steps_ - 1);
    }
    return out;
  }

  // Guidance and the solver. Where defers_, they follow the next visit's forward, so that neither
  // branch stands still when the other's velocity is a little late. Not in a pipeline, whose first
  // stage waits for the latent.
  void solve_deferred() {
    if (!deferred_) return;
    const auto [b, s] = *deferred_;
    deferred_.reset();
    const bool finished = s.value + 1 == steps_;
    const Latent made{b, {s.value + 1}};
    if (mesh_.branches == 2) add(Recv{Payload::velocity, b, s, other_branch()});
    add(SolverStep{b, s});
    if (mesh_.stages > 1 && first_stage_reads(made))
      add(Send{Payload::latent, b, made.version, first_rank()});
    if (finished && mesh_.branch(rank_).value == 0) add(Emit{b});
    release_latents(b, s);
  }

  // A head and an aligned tail have one reader. The last tail of a finished block (`causal`) is
  // read until the next block is finished.
  void release_features(const Forward& forward) {
    if (forward.suffix) add(ReleaseFeatures{*forward.suffix});
    if (!forward.prefix) return;
    const bool stays = rule_ == ContextRule::causal && forward.prefix->step.value == steps_ - 1 &&
                       forward.step.value < steps_ - 1;
    if (!stays) add(ReleaseFeatures{*forward.prefix});
  }

  void release_latents(BlockId b, StepId s) {
    const bool finished = s.value + 1 == steps_;
    add(ReleaseLatent{{b, s}});
    if (first_ && finished && latent_prefix(b, s)) add(ReleaseLatent{{{b.value - 1}, {steps_}}});
    if (!last_ || !finished) return;
    if (mesh_.stages > 1 || !kept_as_prefix(b)) add(ReleaseLatent{{b, {steps_}}});
    add(ReleaseSolver{b});
  }

  Mesh mesh_;
  ContextRule rule_;
  int64_t steps_, stagger_;
  std::optional<int64_t> blocks_;
  int64_t first_block_;
  Sweep sweep_;
  bool begins_;
  RankId rank_;
  bool first_, last_, defers_;
  std::optional<Latent> deferred_;  // the input of a visit that the solver has yet to finish
  std::vector<Instruction>& out_;
};

}  // namespace

PlanMaker::PlanMaker(PlanSpec spec, int64_t begin)
    : spec_(std::move(spec)), begin_(begin), sweep_(begin) {
  check_ranges(spec_);
  LT_CHECK(begin >= 0, "a plan cannot begin at sweep {}", begin);
}

std::optional<int64_t> PlanMaker::sweeps() const {
  const auto blocks = spec_.layout.new_blocks();
  if (!blocks) return std::nullopt;
  return (*blocks - 1) * spec_.effective_stagger() + spec_.steps;
}

bool PlanMaker::done() const {
  const auto total = sweeps();
  return total && sweep_ >= *total;
}

void PlanMaker::append(RankId rank, std::vector<Instruction>& out) const {
  LT_CHECK(rank.value >= 0 && rank.value < spec_.mesh.ranks(), "no rank {} in a mesh of {}",
           rank.value, spec_.mesh.ranks());
  if (!done()) SweepWriter(spec_, sweep_, sweep_ == begin_, rank, out).write();
}

std::vector<std::vector<Instruction>> make_plan(const PlanSpec& spec) {
  if (!spec.layout.total_frames)
    fail(ExitCode::usage, "an unbounded video has no whole plan: make it sweep by sweep");
  PlanMaker maker(spec);
  std::vector<std::vector<Instruction>> out(static_cast<size_t>(spec.mesh.ranks()));
  for (; !maker.done(); maker.next())
    for (int64_t rank = 0; rank < spec.mesh.ranks(); ++rank)
      maker.append({rank}, out[static_cast<size_t>(rank)]);
  return out;
}

}  // namespace longtake
