// The dispatcher's thread: joins, answers, heartbeats, and handing out pieces. It sleeps in poll()
// and copies payloads; it never computes.
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/copy.h"
#include "parallel/attention/dispatch_state.h"
#include "parallel/attention/socket.h"

namespace longtake {

using PieceState = AttentionPiece::State;

double WorkerPeer::work_there() const {
  double work = 0;
  for (const Slot& slot : slots) work += slot.used ? slot.work : 0;
  return work;
}

int WorkerPeer::free_slot() const {
  for (size_t i = 0; i < slots.size(); ++i)
    if (!slots[i].used) return static_cast<int>(i);
  return -1;
}

void AttentionDispatcher::State::run() {
  for (;;) {
    {
      const Lock lock(mutex);
      if (closing) break;
    }
    try {
      serve_once();
    } catch (const std::exception& e) {
      // Without this thread the rank goes on alone.
      const Lock lock(mutex);
      totals.error = e.what();
      for (WorkerPeer& peer : peers)
        if (peer.link) lose(peer, "handing out work has ended");
      door.reset();
      return;
    }
  }
  say_goodbye();
}

void AttentionDispatcher::State::serve_once() {
  constexpr std::chrono::milliseconds kTick{100};
  std::vector<pollfd> waits{{wake_fd, POLLIN, 0}};
  if (door) door->add_waits(waits);
  std::chrono::microseconds tick = door ? std::min(kTick, door->next_deadline()) : kTick;
  for (const WorkerPeer& peer : peers) {
    if (!peer.link) continue;
    peer.link->add_waits(waits);
    if (peer.link->polling()) tick = kPollingTick;
  }
  wait_for_any(waits, tick);
  uint64_t woken = 0;
  (void)!::read(wake_fd, &woken, sizeof woken);

  std::vector<std::unique_ptr<PairLink>> come;
  if (door)
    for (PairListener::Joined& joined : door->pump()) come.push_back(std::move(joined.link));
  {
    const Lock lock(mutex);
    if (door) totals.refused = door->refused();
    for (auto& link : joining) come.push_back(std::move(link));
    joining.clear();
    for (auto& link : come) admit(std::move(link), now());
  }
  for (WorkerPeer& peer : peers)
    if (peer.link) serve(peer);
  replan();
  // Everyone gets one piece before anyone gets another.
  for (bool sent = true; sent;) {
    sent = false;
    for (WorkerPeer& peer : peers)
      if (peer.link) sent = dispatch(peer) || sent;
  }
}

void AttentionDispatcher::State::admit(std::unique_ptr<PairLink> link, double now) {
  peers.emplace_back(static_cast<int64_t>(peers.size()), std::move(link), rules.health, now);
  changed.notify_all();
}

const StreamRef* AttentionDispatcher::State::copies_for(const WorkerPeer& peer) {
  if (!peer.slots_on_gpu) return nullptr;
  if (!copies) copies = std::make_unique<GpuCopies>(peer.link->device().index);
  copies->stream.make_current();
  return &copies->ref;
}

void AttentionDispatcher::State::on_message(WorkerPeer& peer, const NcclOffer&) {
  const Lock lock(mutex);
  lose(peer, "it sent an offer, expected answers");
}

void AttentionDispatcher::State::on_message(WorkerPeer& peer, const NcclVerdict&) {
  const Lock lock(mutex);
  lose(peer, "it spoke of NCCL, expected answers");
}

void AttentionDispatcher::State::serve(WorkerPeer& peer) {
  std::string broken;
  try {
    for (const PairMessage& message : peer.link->pump()) {
      if (!peer.link) return;
      std::visit([&](const auto& m) { on_message(peer, m); }, message);
    }
    if (peer.link && now() >= peer.next_heartbeat_s) {
      peer.link->post(Heartbeat{});
      peer.next_heartbeat_s = now() + rules.health.heartbeat_s;
    }
  } catch (const Error& e) {
    broken = e.what();
  }
  const Lock lock(mutex);
  if (!peer.link) return;
  if (peer.health.state() == WorkerState::dead) return dismiss(peer);
  if (broken.empty() && peer.health.silent(now()))
    broken = fmt::format("{} heartbeats missed", rules.health.missed_heartbeats);
  if (broken.empty()) return;
  peer.link.reset();  // without a goodbye: it may join again
  lose(peer, broken);
}

// A worker that hears the goodbye does not come again.
void AttentionDispatcher::State::dismiss(WorkerPeer& peer) {
  if (!peer.link) return;
  try {
    peer.link->post(Goodbye{});
    (void)peer.link->pump();  // sends it, and reads what would make closing lose it
  } catch (const Error&) {
    // It is gone already.
  }
  peer.link.reset();
}

void AttentionDispatcher::State::on_message(WorkerPeer& peer, const Heartbeat& heartbeat) {
  const Lock lock(mutex);
  peer.health.heard(now());
  peer.available = heartbeat.available;
  peer.keys.limit(heartbeat.keep_bytes);
}

void AttentionDispatcher::State::on_message(WorkerPeer& peer, const Goodbye&) {
  const Lock lock(mutex);
  lose(peer, "it left");
}

void AttentionDispatcher::State::on_message(WorkerPeer& peer, const AttentionTask&) {
  const Lock lock(mutex);
  lose(peer, "it sent a task, expected answers");
}

void AttentionDispatcher::State::on_message(WorkerPeer& peer, const AttentionAnswer& answer) {
  Lock lock(mutex);
  peer.health.heard(now());
  WorkerPeer::Slot* slot = answer.slot < peer.slots.size() ? &peer.slots[answer.slot] : nullptr;
  if (!slot || !slot->used || slot->task != answer.id || answer.epoch != peer.link->terms().epoch) {
    ++peer.counts.dropped;  // a second answer, or to a question of another session
    return;
  }
  const double taken = now() - slot->sent_s;
  if (answer.status == AnswerStatus::ok) {
    peer.counts.kernel_s += static_cast<double>(answer.kernel_s);
    peer.counts.queue_s += static_cast<double>(answer.queue_s);
    peer.counts.received_bytes += answer.payload_bytes;
    const std::byte* payload = peer.link->answer_payload(answer.slot);
    const uint64_t bytes = answer.payload_bytes;
    lock.unlock();
    const bool whole = peer.slots_on_gpu || payload_checksum(payload, bytes) == answer.checksum;
    lock.lock();
    if (!whole) return lose(peer, "an answer with a wrong checksum");
    take_measure(peer, *slot, answer, taken);
    // Others were in the queue before it; copying it there and back counts.
    peer.health.answered(std::max(taken - static_cast<double>(answer.queue_s), 1e-9), slot->work);
    return take_answer(peer, *slot, answer.slot, lock);
  }
  if (slot->piece && slot->piece->state == PieceState::sent && slot->piece->task == slot->task) {
    give_back(*slot->piece, now());
    ++peer.counts.redispatched;
  }
  if (peer.trial && peer.trial->task == answer.id) peer.trial.reset();
  const bool named_keys = slot->asked.names_resident_keys();
  *slot = {};
  peer.keys.clear();  // it may not have kept what came with this task, or forgot what it had
  changed.notify_all();
  const bool harmless = answer.status == AnswerStatus::busy ||
                        (answer.status == AnswerStatus::need_keys && named_keys);
  if (!harmless)
    lose(peer, answer.status == AnswerStatus::bad_payload ? "a task reached it damaged"
                                                          : "it could not compute a task");
}

void AttentionDispatcher::State::take_answer(WorkerPeer& peer, WorkerPeer::Slot& slot, int number,
                                             Lock& lock) {
  const std::byte* payload = peer.link->answer_payload(number);
  if (peer.trial && peer.trial->task == slot.task) {
    const AttentionTask& asked = slot.asked;
    std::vector<std::byte>& found = peer.trial->answer.emplace(asked.answer_bytes());
    const Shape shape{asked.queries, asked.heads, asked.head_dim};
    if (const StreamRef* gpu = copies_for(peer))
      copy(ConstTensor(payload, asked.dtype, shape, gpu->device()),
           Tensor(found.data(), asked.dtype, shape), *gpu);
    else
      std::copy_n(payload, found.size(), found.begin());
    slot = {};
    return compare(peer);
  }
  AttentionPiece* piece = slot.piece;
  if (!piece || piece->state != PieceState::sent || piece->task != slot.task) {
    ++peer.counts.dropped;
    slot = {};
    return;
  }
  AttentionCall& call = *slot.call;
  piece->state = PieceState::arriving;
  ++call.copying;
  lock.unlock();
  std::string broken;  // a GPU's copy can fail
  try {
    call.unpack(*piece, payload, copies_for(peer));
  } catch (const Error& e) {
    broken = e.what();
  }
  lock.lock();
  --call.copying;
  slot = {};
  if (!broken.empty()) {
    give_back(*piece, now());
    return lose(peer, broken);
  }
  if (peer.health.state() == WorkerState::dead) {
    give_back(*piece, now());  // found out meanwhile: nothing of it counts any more
  } else {
    ++totals.pieces_away;
    call.finish(*piece);
  }
  changed.notify_all();
}

// Takes the first piece that waits, or as many of its rows as this worker can be expected to have
// done before the same layer's next attention begins. False: nothing was sent.
bool AttentionDispatcher::State::dispatch(WorkerPeer& peer) {
  Lock lock(mutex);
  const int slot = peer.free_slot();
  if (slot < 0 || !peer.available) return false;
  const bool trial = trial_due(peer);
  if (!trial && (!peer.health.trusted() || quota.no_workers())) return false;
  for (AttentionCall& call : calls) {
    if (!call.offered || (!peer.slots_on_gpu && !call.readable_on_host())) continue;
    AttentionPiece* first = first_waiting(call, peer);
    if (!first) continue;
    if (!trial && !fits(peer, call, *first)) continue;
    const AttentionTask task = call.task_of(*first);
    const PairTerms& terms = peer.link->terms();
    if (task.payload_bytes() > terms.task_bytes || task.answer_bytes() > terms.answer_bytes) {
      lose(peer, fmt::format("its slots hold {} + {} bytes, a task needs {} + {}", terms.task_bytes,
                             terms.answer_bytes, task.payload_bytes(), task.answer_bytes()));
      return false;
    }
    send(peer, slot, call, *first, trial, lock);
    return true;
  }
  return false;
}

void AttentionDispatcher::State::send(WorkerPeer& peer, int slot, AttentionCall& call,
                                      AttentionPiece& piece, bool trial, Lock& lock) {
  AttentionTask task = call.task_of(piece);
  task.id = next_task++;
  task.epoch = peer.link->terms().epoch;
  task.slot = static_cast<uint16_t>(slot);
  task.canary = trial;
  const double work = call.work(piece.queries);
  piece.task = task.id;
  if (trial) {
    piece.only_here = true;
    piece.trial = peer.index;
    peer.trial.emplace(task.id);
    ++peer.counts.trials;
  } else {
    piece.state = PieceState::sending;
    piece.worker = peer.index;
    work_away += work;
  }
  ++peer.counts.tasks;
  peer.next_probe = totals.calls + rules.probe_calls;
  const uint64_t whole_bytes = task.payload_bytes();
  const bool shared =
      std::any_of(call.pieces().begin(), call.pieces().end(), [&](const AttentionPiece& other) {
        return other.head == piece.head && other.state == PieceState::waiting && &other != &piece;
      });
  peer.slots[static_cast<size_t>(slot)] = {.used = true,
                                           .task = task.id,
                                           .asked = task,
                                           .work = work,
                                           .call = trial ? nullptr : &call,
                                           .piece = trial ? nullptr : &piece};
  ++call.copying;
  lock.unlock();
  std::string broken;
  try {
    std::byte* payload = peer.link->task_payload(slot);
    // Content on a GPU is not read here: no numbers, no checksum.
    if (!peer.slots_on_gpu) number_keys(peer, call, piece, shared, task);
    call.pack(piece, task, payload, copies_for(peer));
    if (!peer.slots_on_gpu) task.checksum = payload_checksum(payload, task.payload_bytes());
    peer.link->post(task);
  } catch (const Error& e) {
    broken = e.what();
  }
  lock.lock();
  --call.copying;
  WorkerPeer::Slot& used = peer.slots[static_cast<size_t>(slot)];
  used.sent_s = now();
  used.asked = task;
  peer.counts.sent_bytes += task.payload_bytes();
  peer.counts.resident_bytes += whole_bytes - task.payload_bytes();
  if (!trial) {
    piece.state = PieceState::sent;
    piece.sent_s = used.sent_s;
    piece.deadline_s = peer.health.deadline_s(peer.work_there());
    under_way(piece);
    if (peer.health.state() == WorkerState::dead) give_back(piece, now());  // found out meanwhile
  }
  if (!broken.empty()) lose(peer, broken);
  changed.notify_all();
}

void AttentionDispatcher::State::compare(WorkerPeer& peer) {
  if (!peer.trial->expected || !peer.trial->answer) return;
  const bool equal = *peer.trial->expected == *peer.trial->answer;
  peer.trial.reset();
  peer.health.compared(equal);
  if (!equal) lose(peer, peer.health.reason());
  wake();
}

// All that it had waits again. The link is closed by the dispatcher's thread, which is the only one
// to use it: others only mark the worker.
void AttentionDispatcher::State::lose(WorkerPeer& peer, const std::string& reason) {
  peer.health.lost(reason);
  const double at = now();
  for (WorkerPeer::Slot& slot : peer.slots) {
    if (slot.used && slot.piece && slot.piece->state == PieceState::sent &&
        slot.piece->task == slot.task) {
      give_back(*slot.piece, at);
      ++peer.counts.redispatched;
    }
    slot = {};
  }
  peer.trial.reset();
  if (std::this_thread::get_id() == thread.get_id()) dismiss(peer);
  changed.notify_all();
}

void AttentionDispatcher::State::say_goodbye() {
  const double until = now() + rules.close_s;
  if (door) door->close();
  for (WorkerPeer& peer : peers) {
    if (!peer.link) continue;
    try {
      peer.link->post(Goodbye{});
      while (peer.link->sending() && now() < until) {
        (void)peer.link->pump();
        std::vector<pollfd> waits;
        peer.link->add_waits(waits);
        (void)::poll(waits.data(), waits.size(), 10);
      }
    } catch (const Error&) {
      // It is gone already.
    }
    const Lock lock(mutex);
    peer.link.reset();
  }
}

}  // namespace longtake
