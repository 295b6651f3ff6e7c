#include "parallel/plan/check_rank.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

namespace {

std::string text(const std::optional<Latent>& l) {
  return l ? fmt::format("b{} v{}", l->block.value, l->version.value) : "none";
}

std::string text(const std::optional<Features>& f) {
  if (!f) return "none";
  return fmt::format("{}(b{} s{})", name(f->edge), f->block.value, f->step.value);
}

Held held_of(Edge edge) {
  return edge == Edge::head ? Held::head : Held::tail;
}

const char* held_name(Held held) {
  switch (held) {
    case Held::head:
      return "features head of";
    case Held::tail:
      return "features tail of";
    case Held::latent:
      return "latent";
    case Held::solver:
      return "solver state of";
    case Held::version:
      return "unfinished";
  }
  return "?";
}

}  // namespace

RankChecker::RankChecker(const PlanSpec& spec, RankId rank, VisitOracle& oracle)
    : spec_(spec),
      rank_(rank),
      first_(spec.mesh.first(rank)),
      last_(spec.mesh.last(rank)),
      rule_(spec.effective_rule()),
      oracle_(&oracle),
      next_admit_(spec.layout.first_block),
      next_emit_(spec.layout.first_block) {}

void RankChecker::apply(const Instruction& instruction) {
  current_ = &instruction;
  std::visit([this](const auto& i) { issue(i); }, instruction);
  ++index_;
}

std::string RankChecker::place(const Instruction& instruction) const {
  return fmt::format("rank {}, instruction {} `{}`", rank_.value, index_, to_text(instruction));
}

void RankChecker::refuse(const std::string& expected) const {
  fail(ExitCode::error, "plan: {}: expected {}", place(*current_), expected);
}

void RankChecker::finish() {
  const auto left = [&](const std::string& what) {
    fail(ExitCode::error, "plan: rank {} ends after {} instructions with {}", rank_.value, index_,
         what);
  };
  if (const ExpectedVisit* visit = next_visit())
    left(fmt::format("visit b{} s{} not done", visit->block.value, visit->step.value));
  if (tokens_ != Tokens::none) left("tokens that went nowhere");
  if (velocity_ || other_velocity_) left("a velocity that went nowhere");
  if (last_ && rank_.value < spec_.mesh.stages && next_emit_ != *spec_.layout.blocks())
    left(fmt::format("{} of {} blocks emitted", next_emit_, *spec_.layout.blocks()));
  for (const LiveSet::Entry& entry : live_.entries())
    if (entry.key != 0)
      left(fmt::format("{} b{} {} not given back", held_name(LiveSet::held(entry.key)),
                       LiveSet::block(entry.key).value, LiveSet::step(entry.key).value));
}

void RankChecker::issue(const Admit& i) {
  require(first_ || last_, "a first or last stage");
  if (i.block.value != next_admit_ || !oracle_->exists(i.block))
    refuse(fmt::format("block {} of {} to enter next", next_admit_,
                       spec_.layout.blocks() ? std::to_string(*spec_.layout.blocks()) : "many"));
  ++next_admit_;
  live_.insert(key(Held::version, i.block, {}), -1);
  make_latent(i.block, {0});
  if (last_) make(Held::solver, i.block, {});
}

void RankChecker::issue(const Recall& i) {
  require(first_, "a first stage");
  require(!recalled_ && visits_ == 0 && next_admit_ == spec_.layout.first_block,
          "it once, before all else");
  if (i.latent != Latent{{spec_.layout.first_block - 1}, {spec_.steps}} || next_admit_ == 0)
    refuse("the finished block before the first of this plan");
  recalled_ = true;
  make(Held::latent, i.latent.block, i.latent.version);
}

void RankChecker::issue(const Embed& i) {
  require(first_, "a first stage");
  require(tokens_ == Tokens::none, "the tokens before to be gone");
  expect_visit(i.block, i.step);
  const auto& prefix = next_visit()->latent_prefix;
  if (i.prefix != prefix) refuse("latent prefix " + text(prefix));
  read(Held::latent, i.block, i.step);
  if (prefix) read(Held::latent, prefix->block, prefix->version);
  tokens_ = Tokens::input;
  tokens_of_ = {i.block, i.step};
}

RankId RankChecker::peer(Payload payload, bool sending) const {
  const Mesh& mesh = spec_.mesh;
  const int64_t step = sending ? 1 : -1;
  const StageId stage = mesh.stage(rank_);
  const BranchId branch = mesh.branch(rank_);
  switch (payload) {
    case Payload::tokens:
      require(!(sending ? last_ : first_), "another stage on that side");
      return {rank_.value + step};
    case Payload::latent:
      require(mesh.stages > 1 && (sending ? last_ : first_),
              "latents from a last to a first stage");
      return mesh.rank({sending ? 0 : mesh.stages - 1}, branch);
    case Payload::velocity:
      require(mesh.branches == 2 && last_, "velocities between two last stages");
      return mesh.rank(stage, {1 - branch.value});
  }
  refuse("a payload");
}

void RankChecker::issue(const Recv& i) {
  const RankId from = peer(i.payload, false);
  if (i.from != from) refuse(fmt::format("rank {} as sender", from.value));
  if (i.payload == Payload::tokens) {
    require(tokens_ == Tokens::none, "the tokens before to be gone");
    tokens_ = Tokens::input;
    tokens_of_ = {i.block, i.step};
  } else if (i.payload == Payload::velocity) {
    require(!other_velocity_, "the other branch's velocity before to be used");
    other_velocity_ = Visit{i.block, i.step};
  } else {
    make_latent(i.block, i.step);
  }
}

void RankChecker::issue(const Send& i) {
  const RankId to = peer(i.payload, true);
  if (i.to != to) refuse(fmt::format("rank {} as receiver", to.value));
  const Visit visit{i.block, i.step};
  if (i.payload == Payload::tokens) {
    require(tokens_ == Tokens::output && tokens_of_ == visit, "this visit's forward just before");
    tokens_ = Tokens::none;
  } else if (i.payload == Payload::velocity) {
    require(velocity_ == visit && !velocity_sent_, "this visit's velocity, not sent yet");
    velocity_sent_ = true;
  } else {
    read(Held::latent, i.block, i.step);
  }
}

const ExpectedVisit* RankChecker::next_visit() {
  while (!oracle_->past_the_end(sweep_)) {
    const auto& visits = oracle_->sweep(sweep_);
    if (in_sweep_ < static_cast<int64_t>(visits.size()))
      return &visits[static_cast<size_t>(in_sweep_)];
    ++sweep_;
    in_sweep_ = 0;
  }
  return nullptr;
}

void RankChecker::expect_visit(BlockId block, StepId step) {
  const ExpectedVisit* visit = next_visit();
  require(visit, "no visit after the last");
  if (visit->block != block || visit->step != step)
    refuse(fmt::format("visit b{} s{}", visit->block.value, visit->step.value));
}

void RankChecker::issue(const Forward& i) {
  require(tokens_ == Tokens::input && tokens_of_ == Visit{i.block, i.step}, "this visit's tokens");
  expect_visit(i.block, i.step);
  const ExpectedVisit& visit = *next_visit();
  if (i.prefix_tokens != visit.latent_prefix.has_value())
    refuse(visit.latent_prefix ? "prefix tokens" : "no prefix tokens");
  if (i.prefix != visit.prefix) refuse("prefix " + text(visit.prefix));
  if (i.suffix != visit.suffix) refuse("suffix " + text(visit.suffix));
  if (i.prefix) read(held_of(i.prefix->edge), i.prefix->block, i.prefix->step);
  if (i.suffix) read(held_of(i.suffix->edge), i.suffix->block, i.suffix->step);
  if (i.publish_head) make(Held::head, i.block, i.step);
  if (i.publish_tail) make(Held::tail, i.block, i.step);
  tokens_ = Tokens::output;
  ++in_sweep_;
  ++visits_;
}

void RankChecker::issue(const Head& i) {
  require(last_, "a last stage");
  const Visit visit{i.block, i.step};
  require(tokens_ == Tokens::output && tokens_of_ == visit, "this visit's forward just before");
  require(!velocity_, "the velocity before to be used");
  tokens_ = Tokens::none;
  velocity_ = visit;
  velocity_sent_ = false;
}

void RankChecker::issue(const SolverStep& i) {
  require(last_, "a last stage");
  const Visit visit{i.block, i.step};
  require(velocity_ == visit, "this visit's velocity");
  if (spec_.mesh.branches == 2) {
    require(velocity_sent_, "the velocity sent to the other branch");
    require(other_velocity_ == visit, "the other branch's velocity of this visit");
  }
  int64_t* done = live_.find(key(Held::solver, i.block, {}));
  require(done && *done == i.step.value, "a solver state with that many steps done");
  ++*done;
  read(Held::latent, i.block, i.step);
  make_latent(i.block, {i.step.value + 1});
  velocity_.reset();
  other_velocity_.reset();
}

void RankChecker::issue(const Emit& i) {
  require(last_ && spec_.mesh.branch(rank_).value == 0, "the last stage of branch 0");
  if (i.block.value != next_emit_) refuse(fmt::format("block {} to be emitted next", next_emit_));
  read(Held::latent, i.block, {spec_.steps});
  ++next_emit_;
}

void RankChecker::issue(const ReleaseFeatures& i) {
  release(held_of(i.features.edge), i.features.block, i.features.step, true);
}

void RankChecker::issue(const ReleaseLatent& i) {
  const auto [block, version] = i.latent;
  const bool finished = last_ && version.value == spec_.steps;  // branch 1 has no use for it
  release(Held::latent, block, version, !finished);
  const bool of_this_plan = block.value >= spec_.layout.first_block;
  if (of_this_plan && version.value == final_version(block))
    live_.erase(key(Held::version, block, {}));
}

void RankChecker::issue(const ReleaseSolver& i) {
  const int64_t* done = live_.find(key(Held::solver, i.block, {}));
  require(done && *done == spec_.steps, "a solver that has done all steps");
  release(Held::solver, i.block, {}, false);
}

// The last version that this rank ever holds of a block.
int64_t RankChecker::final_version(BlockId block) const {
  const bool next_reads = rule_ == ContextRule::dualparal && oracle_->exists({block.value + 1});
  return last_ || next_reads ? spec_.steps : spec_.steps - 1;
}

uint64_t RankChecker::key(Held held, BlockId block, StepId step) const {
  if (block.value < 0 || block.value >= LiveSet::block_limit || step.value < 0 ||
      step.value >= LiveSet::step_limit)
    refuse("a block and a step in range");
  return LiveSet::key(held, block, step);
}

int64_t& RankChecker::count(Held held, RankPeak& in) const {
  return held == Held::head     ? in.heads
         : held == Held::tail   ? in.tails
         : held == Held::latent ? in.latents
                                : in.solvers;
}

// The value of features and latents tells whether they were read, that of a solver its steps.
void RankChecker::make(Held held, BlockId block, StepId step) {
  const uint64_t k = key(held, block, step);
  require(!live_.find(k), "nothing to be made twice");
  live_.insert(k, 0);
  int64_t& alive = count(held, now_);
  int64_t& most = count(held, peak_);
  most = std::max(most, ++alive);
}

// Versions of a block come one after the other, each once.
void RankChecker::make_latent(BlockId block, StepId version) {
  int64_t* newest = live_.find(key(Held::version, block, {}));
  require(newest, "a block that has entered and is not finished");
  if (version.value != *newest + 1 || version.value > final_version(block))
    refuse(fmt::format("version {} of the block to be made next, at most {}", *newest + 1,
                       final_version(block)));
  ++*newest;
  make(Held::latent, block, version);
}

void RankChecker::read(Held held, BlockId block, StepId step) {
  int64_t* reads = live_.find(key(held, block, step));
  if (!reads)
    refuse(fmt::format("{} b{} {} to be there", held_name(held), block.value, step.value));
  ++*reads;
}

void RankChecker::release(Held held, BlockId block, StepId step, bool must_be_read) {
  const uint64_t k = key(held, block, step);
  const int64_t* reads = live_.find(k);
  require(reads, "something that is there");
  require(*reads > 0 || !must_be_read, "something that was read");
  live_.erase(k);
  --count(held, now_);
}

}  // namespace longtake
