#include "parallel/attention/dispatcher.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "parallel/attention/dispatch_state.h"

namespace longtake {

namespace {

using PieceState = AttentionPiece::State;

std::chrono::duration<double> seconds(double s) {
  return std::chrono::duration<double>(s);
}

}  // namespace

double AttentionDispatcher::State::now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void AttentionDispatcher::State::wake() const {
  const uint64_t one = 1;
  const ssize_t written = ::write(wake_fd, &one, sizeof one);
  // Full: it is awake already.
  LT_CHECK(written == sizeof one || errno == EAGAIN, "eventfd: {}", std::strerror(errno));
}

AttentionDispatcher::AttentionDispatcher(const DispatchRules& rules,
                                         std::unique_ptr<PairListener> door)
    : state_(std::make_unique<State>()), port_(door ? door->port() : 0) {
  state_->rules = rules;
  state_->door = std::move(door);
  state_->wake_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  LT_CHECK(state_->wake_fd >= 0, "eventfd: {}", std::strerror(errno));
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

AttentionDispatcher::~AttentionDispatcher() {
  close();
  ::close(state_->wake_fd);
}

void AttentionDispatcher::close() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->wake();
  if (state_->thread.joinable()) state_->thread.join();
}

void AttentionDispatcher::add_worker(std::unique_ptr<PairLink> link) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->joining.push_back(std::move(link));
  }
  state_->wake();
}

int64_t AttentionDispatcher::workers(int64_t count, double wait_s) {
  State::Lock lock(state_->mutex);
  const auto here = [&] {
    return std::count_if(state_->peers.begin(), state_->peers.end(),
                         [](const WorkerPeer& p) { return p.link != nullptr; });
  };
  state_->changed.wait_for(lock, seconds(wait_s), [&] { return here() >= count; });
  return here();
}

bool AttentionDispatcher::State::anybody() const {
  return std::any_of(peers.begin(), peers.end(),
                     [](const WorkerPeer& p) { return p.link != nullptr; });
}

bool AttentionDispatcher::anybody() const {
  const State::Lock lock(state_->mutex);
  return state_->anybody();
}

AttentionExchange::Call AttentionDispatcher::start(const AttentionArgs& args,
                                                   const AttentionKey& key, StreamRef stream) {
  State& s = *state_;
  State::Lock lock(s.mutex);
  AttentionCall& call = s.calls.emplace_back(s.next_call++, args, key);
  ++s.totals.calls;
  const double work = static_cast<double>(call.queries()) * static_cast<double>(call.keys());
  if (!s.anybody() || work < s.rules.least_work) {
    // Nobody to ask, or not worth it: all heads at once.
    lock.unlock();
    const double begin = State::now();
    attention(args, stream);
    stream.synchronize();
    const double taken = State::now() - begin;
    lock.lock();
    s.pace_here.add(taken, call.work(call.queries()) * static_cast<double>(call.heads()));
    s.totals.pieces_here += call.heads();
    for (AttentionPiece& piece : call.pieces()) call.finish(piece);
    return call.id();
  }
  const bool host_copies = std::any_of(s.peers.begin(), s.peers.end(), [](const WorkerPeer& p) {
    return p.link != nullptr && !p.slots_on_gpu;
  });
  lock.unlock();
  call.stage(host_copies, stream);
  lock.lock();
  call.offered = true;
  call.started_s = State::now();
  call.engaged_s = s.engaged_s;
  lock.unlock();
  s.wake();
  return call.id();
}

void AttentionDispatcher::finish(Call id, StreamRef stream) {
  State& s = *state_;
  State::Lock lock(s.mutex);
  const auto found = std::find_if(s.calls.begin(), s.calls.end(),
                                  [&](const AttentionCall& call) { return call.id() == id; });
  LT_CHECK(found != s.calls.end(), "attention call {} is not under way", id);
  AttentionCall& call = *found;
  const double entered = State::now();
  s.await(call, entered);
  while (call.left() > 0 || call.copying > 0) {
    AttentionCall* of = nullptr;
    AttentionPiece* piece = s.next_here(call, of, stream.pool().threads());
    if (!piece) {
      piece = s.late_piece(call, State::now());
      of = &call;
    }
    if (piece)
      s.compute_here(*of, *piece, stream, lock);
    else
      s.wait_for(call, lock);
  }
  lock.unlock();
  call.unstage(stream);
  lock.lock();
  s.engaged_s += State::now() - entered;
  s.calls.erase(found);
}

void AttentionDispatcher::abandon(Call id) noexcept {
  State& s = *state_;
  State::Lock lock(s.mutex);
  const auto found = std::find_if(s.calls.begin(), s.calls.end(),
                                  [&](const AttentionCall& call) { return call.id() == id; });
  if (found == s.calls.end()) return;
  found->offered = false;  // no piece of it is sent any more
  while (found->copying > 0) s.changed.wait(lock);
  for (WorkerPeer& peer : s.peers) {
    for (WorkerPeer::Slot& slot : peer.slots)
      if (slot.call == &*found) slot.call = nullptr, slot.piece = nullptr;
    for (const AttentionPiece& piece : found->pieces())
      if (peer.trial && peer.trial->task == piece.task) peer.trial.reset();
  }
  s.calls.erase(found);
}

// What the rank had to do by itself since start(), as the next calls of this branch will find it.
void AttentionDispatcher::State::await(AttentionCall& call, double now) {
  constexpr double kNewest = 0.25;
  if (call.offered) {
    double& own = own_s[call.key().branch % own_s.size()];
    const double found = now - call.started_s - (engaged_s - call.engaged_s);
    own += kNewest * (std::max(0.0, found) - own);
    last_calls[call.key().branch % own_s.size()] =
        MeasuredCall{own,          call.queries(),  call.keys(),
                     call.heads(), call.head_dim(), static_cast<int64_t>(size_bytes(call.dtype()))};
  }
  call.awaited = true;
}

// The last piece that waits, of this call first; of a large one only the last rows, so that a
// worker that becomes free finds the rest.
AttentionPiece* AttentionDispatcher::State::next_here(AttentionCall& call, AttentionCall*& of,
                                                      int threads) {
  constexpr int64_t kParts = 8;
  const auto last_waiting = [](AttentionCall& c) {
    AttentionPiece* last = nullptr;
    for (AttentionPiece& piece : c.pieces())
      if (piece.state == PieceState::waiting &&
          (!last ||
           std::pair(piece.head, piece.first_query) > std::pair(last->head, last->first_query)))
        last = &piece;
    return last;
  };
  AttentionPiece* piece = last_waiting(call);
  of = &call;
  for (auto c = calls.begin(); !piece && c != calls.end(); ++c) {
    if (!c->offered) continue;
    piece = last_waiting(*c);
    of = &*c;
  }
  if (!piece || piece->only_here) return piece;
  const int64_t least = AttentionCall::kRows * std::max(1, threads);
  const int64_t part = std::max(least, (of->queries() / kParts + least - 1) / least * least);
  if (piece->queries <= part) return piece;
  const int64_t keep = (piece->queries - part + least - 1) / least * least;
  return keep < piece->queries ? &of->cut(*piece, piece->queries - keep) : piece;
}

// A piece of this call whose worker takes too long; computing it here costs what was planned to be
// computed there, so there is a budget, which a very late answer need not respect.
AttentionPiece* AttentionDispatcher::State::late_piece(AttentionCall& call, double now) {
  for (AttentionPiece& piece : call.pieces()) {
    if (piece.state != PieceState::sent || now < piece.sent_s + piece.deadline_s) continue;
    const double work = call.work(piece.queries);
    const bool very_late = now > piece.sent_s + 2 * piece.deadline_s;
    if (!very_late && work_hedged + work > rules.hedged_share * work_away) continue;
    work_hedged += work;
    for (WorkerPeer& peer : peers) {
      if (peer.index != piece.worker) continue;
      ++peer.counts.late;
      ++peer.counts.redispatched;
      peer.health.missed(now - piece.sent_s - piece.deadline_s);
      for (WorkerPeer::Slot& slot : peer.slots)
        if (slot.used && slot.task == piece.task) slot.call = nullptr, slot.piece = nullptr;
    }
    give_back(piece, now);
    return &piece;
  }
  return nullptr;
}

void AttentionDispatcher::State::compute_here(AttentionCall& call, AttentionPiece& piece,
                                              StreamRef stream, Lock& lock) {
  piece.state = PieceState::here;
  piece.worker = -1;
  under_way(piece);
  lock.unlock();
  const double start = now();
  const std::pair<int64_t, int64_t> of{call.id(), piece.head};
  if (packed_of != of) packed_here.filled = false;
  packed_of = of;
  call.compute(piece, packed_here, stream);
  stream.synchronize();
  const double taken = now() - start;
  std::optional<std::vector<std::byte>> result;
  if (piece.trial >= 0) result = call.result(piece, stream);
  lock.lock();
  pace_here.add(taken, call.work(piece.queries));
  ++totals.pieces_here;
  call.finish(piece);
  if (!result) return;
  for (WorkerPeer& peer : peers)
    if (peer.index == piece.trial && peer.trial && peer.trial->task == piece.task) {
      peer.trial->expected = std::move(result);
      compare(peer);
    }
}

// Until something changes or a piece is late. Returns the seconds.
double AttentionDispatcher::State::wait_for(AttentionCall& call, Lock& lock) {
  constexpr double kLongest = 0.1;
  const double start = now();
  double until = start + kLongest;
  int64_t holder = -1;
  for (const AttentionPiece& piece : call.pieces()) {
    if (piece.state == PieceState::done) continue;
    holder = piece.worker;
    if (piece.state == PieceState::sent) {
      const double late = piece.sent_s + piece.deadline_s;
      until = std::min(until, late > start ? late : late + piece.deadline_s);
    }
  }
  changed.wait_for(lock, seconds(std::max(1e-4, until - start)));
  const double waited = now() - start;
  for (WorkerPeer& peer : peers)
    if (peer.index == holder) peer.counts.exposed_s += waited;
  return waited;
}

void AttentionDispatcher::State::give_back(AttentionPiece& piece, double lost_s) {
  piece.state = PieceState::waiting;
  piece.worker = -1;
  piece.lost_s = lost_s;
}

void AttentionDispatcher::State::under_way(AttentionPiece& piece) {
  if (!piece.lost_s) return;
  totals.redispatches.push_back({*piece.lost_s, now()});
  piece.lost_s.reset();
}

DispatchReport AttentionDispatcher::report() const {
  const std::lock_guard lock(state_->mutex);
  DispatchReport out = state_->totals;
  if (const auto& plan = state_->quota.last()) {
    out.planned_s = plan->seconds;
    out.planned_alone_s = plan->alone_s;
    out.plan_changes = state_->quota.changes();
  }
  for (const WorkerPeer& peer : state_->peers) {
    WorkerReport worker = peer.counts;
    worker.state = peer.health.state();
    worker.reason = peer.health.reason();
    out.workers.push_back(worker);
  }
  return out;
}

}  // namespace longtake
