// Who is given what: from measured times of the rank, its workers and the links.
#include <algorithm>
#include <tuple>

#include "parallel/attention/balance.h"
#include "parallel/attention/dispatch_state.h"

namespace longtake {

using PieceState = AttentionPiece::State;

void AttentionDispatcher::State::take_measure(WorkerPeer& peer, const WorkerPeer::Slot& slot,
                                              const AttentionAnswer& answer, double taken_s) {
  const double kernel_s = static_cast<double>(answer.kernel_s);
  MeasuredWorker& m = peer.measured;
  m.id = static_cast<int>(peer.index);
  m.work += slot.work;
  m.kernel_s += kernel_s;
  m.bytes += static_cast<double>(slot.asked.payload_bytes() + answer.payload_bytes);
  m.transfer_s += std::max(0.0, taken_s - kernel_s - static_cast<double>(answer.queue_s));
}

void AttentionDispatcher::State::replan() {
  const Lock lock(mutex);
  if (!rules.weigh || totals.calls < next_plan || !pace_here.known()) return;
  next_plan = totals.calls + rules.replan_calls;
  std::vector<MeasuredCall> branches;
  for (const auto& call : last_calls)
    if (call) branches.push_back(*call);
  std::vector<MeasuredWorker> workers;
  for (const WorkerPeer& peer : peers)
    if (peer.link && peer.health.trusted()) workers.push_back(peer.measured);
  quota.plan(branches, pace_here.mean(), workers);
  // What was measured long ago fades.
  for (WorkerPeer& peer : peers) {
    peer.measured.work /= 2, peer.measured.kernel_s /= 2;
    peer.measured.bytes /= 2, peer.measured.transfer_s /= 2;
  }
}

// To be given a piece that the rank computes as well: while it is on probation, now and then later,
// and when it got nothing for a while, to see whether it is still not worth asking.
bool AttentionDispatcher::State::trial_due(WorkerPeer& peer) {
  if (peer.trial) return false;
  if (peer.health.on_trial()) return true;
  if (!peer.health.trusted()) return false;
  if (totals.calls >= peer.next_probe) return true;
  return rules.trial_every > 0 && peer.counts.tasks >= peer.counts.trials * rules.trial_every;
}

// The first piece that waits, of the heads that are planned for this worker first.
AttentionPiece* AttentionDispatcher::State::first_waiting(AttentionCall& call,
                                                          const WorkerPeer& peer) {
  const auto order = [&](const AttentionPiece& piece) {
    const bool own = quota.gives(call.key().branch, piece.head, static_cast<int>(peer.index));
    return std::tuple(!own, piece.head, piece.first_query);
  };
  AttentionPiece* first = nullptr;
  for (AttentionPiece& piece : call.pieces())
    if (piece.state == PieceState::waiting && !piece.only_here &&
        (!first || order(piece) < order(*first)))
      first = &piece;
  return first;
}

// Seconds that the rank will still work by itself before it asks for this call.
double AttentionDispatcher::State::spare_s(const AttentionCall& call) const {
  if (call.awaited) return 0;
  return std::max(0.0, own_s[call.key().branch % own_s.size()] - (now() - call.started_s));
}

// A worker's piece, behind what it already has, is to end when 7/8 of the time are over that the
// rank needs for its own work and for all that would be left for it. Cuts the piece when only a
// part of it would: the smaller what is left, the smaller the parts.
bool AttentionDispatcher::State::fits(WorkerPeer& peer, AttentionCall& call,
                                      AttentionPiece& piece) {
  constexpr int64_t kParts = 8;  // of a head, at most
  if (!rules.weigh || !peer.health.pace().known() || !pace_here.known()) return true;
  double waiting = 0;
  for (AttentionCall& c : calls)
    for (const AttentionPiece& p : c.pieces())
      if (c.offered && p.state == PieceState::waiting) waiting += c.work(p.queries);
  const double here = planned_end * pace_here.mean(), there = peer.health.pace().mean();
  const double most =
      (planned_end * spare_s(call) + waiting * here - peer.work_there() * there) / (there + here);
  const double work = call.work(piece.queries);
  if (most >= work) return true;
  const int64_t rows = static_cast<int64_t>(most / work * static_cast<double>(piece.queries)) /
                       AttentionCall::kRows * AttentionCall::kRows;
  if (rows <= 0 || rows * kParts < std::min(piece.queries * kParts, call.queries())) return false;
  call.cut(piece, piece.queries - rows);
  return true;
}

}  // namespace longtake
