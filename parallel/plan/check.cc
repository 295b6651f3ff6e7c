#include "parallel/plan/check.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

PlanChecker::PlanChecker(const PlanSpec& spec, int64_t depth) : spec_(spec), oracle_(spec) {
  check_ranges(spec);
  LT_CHECK(depth >= 1, "a channel needs a buffer at each end, found depth {}", depth);
  LT_CHECK(spec.steps < LiveSet::step_limit, "{} steps are too many", spec.steps);
  const auto ranks = static_cast<size_t>(spec.mesh.ranks());
  for (size_t rank = 0; rank < ranks; ++rank)
    ranks_.emplace_back(spec_, RankId{static_cast<int64_t>(rank)}, oracle_);
  backlogs_.resize(ranks);
  inboxes_.resize(3 * ranks);
  for (Inbox& inbox : inboxes_) inbox.ring.resize(static_cast<size_t>(2 * depth - 1));
}

// The list that the rank's next instructions go to; what was played is forgotten.
std::vector<Instruction>& PlanChecker::open_backlog(RankId rank) {
  LT_CHECK(rank.value >= 0 && rank.value < spec_.mesh.ranks(), "no rank {}", rank.value);
  Backlog& backlog = backlogs_[static_cast<size_t>(rank.value)];
  backlog.list.erase(backlog.list.begin(),
                     backlog.list.begin() + static_cast<std::ptrdiff_t>(backlog.next));
  backlog.next = 0;
  return backlog.list;
}

void PlanChecker::add(RankId rank, std::span<const Instruction> list) {
  std::vector<Instruction>& backlog = open_backlog(rank);
  backlog.insert(backlog.end(), list.begin(), list.end());
}

void PlanChecker::add_sweep(const PlanMaker& maker) {
  for (const RankChecker& rank : ranks_) maker.append(rank.rank(), open_backlog(rank.rank()));
}

void PlanChecker::play() {
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t rank = 0; rank < ranks_.size(); ++rank)
      while (step(rank)) moved = true;
  }
  if (std::none_of(backlogs_.begin(), backlogs_.end(), [](auto& b) { return b.empty(); }))
    refuse_deadlock();
  const auto behind = [](auto& a, auto& b) { return a.sweep() < b.sweep(); };
  oracle_.forget_before(std::min_element(ranks_.begin(), ranks_.end(), behind)->sweep());
}

// False if the rank has nothing to do or has to wait.
bool PlanChecker::step(size_t index) {
  Backlog& backlog = backlogs_[index];
  if (backlog.empty()) return false;
  RankChecker& rank = ranks_[index];
  const Instruction& instruction = backlog.list[backlog.next];
  const auto* recv = std::get_if<Recv>(&instruction);
  const auto* send = std::get_if<Send>(&instruction);
  if (recv && !ready(*recv, rank)) return false;
  const bool to_somebody = send && send->to.value >= 0 && send->to.value < spec_.mesh.ranks();
  if (to_somebody) {
    const Inbox& box = inbox(send->to, send->payload);
    if (box.size == box.ring.size()) return false;
  }
  rank.apply(instruction);
  if (recv) {
    Inbox& box = inbox(rank.rank(), recv->payload);
    box.begin = (box.begin + 1) % box.ring.size();
    --box.size;
  }
  if (send) {
    Inbox& box = inbox(send->to, send->payload);
    box.ring[(box.begin + box.size++) % box.ring.size()] = {send->block, send->step};
  }
  ++backlog.next;
  return true;
}

bool PlanChecker::ready(const Recv& recv, const RankChecker& rank) {
  const Inbox& box = inbox(rank.rank(), recv.payload);
  if (box.size == 0) return false;
  const Message& message = box.ring[box.begin];
  if (message.block != recv.block || message.step != recv.step)
    fail(ExitCode::error, "plan: {}: the next message on this channel is b{} {}", rank.place(recv),
         message.block.value, message.step.value);
  return true;
}

void PlanChecker::refuse_deadlock() const {
  std::string waiting;
  int64_t more = 0;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (backlogs_[i].empty()) continue;
    if (waiting.size() < 1000)
      waiting += "\n  " + ranks_[i].place(backlogs_[i].list[backlogs_[i].next]);
    else
      ++more;
  }
  if (more > 0) waiting += fmt::format("\n  and {} more", more);
  fail(ExitCode::error, "plan: deadlock, these wait for ever:{}", waiting);
}

CheckReport PlanChecker::report() const {
  CheckReport out;
  out.visits = ranks_.front().visits();
  for (const RankChecker& rank : ranks_) {
    out.peaks.push_back(rank.peak());
    out.instructions += rank.index();
    out.visits = std::min(out.visits, rank.visits());
    out.emitted = std::max(out.emitted, rank.emitted());
  }
  return out;
}

CheckReport PlanChecker::finish() {
  LT_CHECK(spec_.layout.total_frames, "an unbounded video does not finish");
  play();
  if (std::any_of(backlogs_.begin(), backlogs_.end(), [](auto& b) { return !b.empty(); }))
    refuse_deadlock();
  for (RankChecker& rank : ranks_) rank.finish();
  for (size_t i = 0; i < inboxes_.size(); ++i)
    if (inboxes_[i].size > 0)
      fail(ExitCode::error, "plan: rank {} never receives {} b{} {}", i / 3,
           name(static_cast<Payload>(i % 3)), inboxes_[i].ring[inboxes_[i].begin].block.value,
           inboxes_[i].ring[inboxes_[i].begin].step.value);
  return report();
}

CheckReport check(const PlanSpec& spec, std::span<const std::vector<Instruction>> plans,
                  int64_t depth) {
  PlanChecker checker(spec, depth);
  if (static_cast<int64_t>(plans.size()) != spec.mesh.ranks())
    fail(ExitCode::error, "plan: expected lists of {} ranks, found {}", spec.mesh.ranks(),
         plans.size());
  for (size_t rank = 0; rank < plans.size(); ++rank)
    checker.add({static_cast<int64_t>(rank)}, plans[rank]);
  return checker.finish();
}

CheckReport check_made(const PlanSpec& spec, std::optional<int64_t> sweeps, int64_t depth) {
  PlanChecker checker(spec, depth);
  PlanMaker maker(spec);
  for (; !maker.done() && (!sweeps || maker.sweep() < *sweeps); maker.next()) {
    checker.add_sweep(maker);
    checker.play();
  }
  return maker.done() ? checker.finish() : checker.report();
}

}  // namespace longtake
