#include "parallel/attention/pair_listener.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cstring>
#include <list>

#include "kernels/base/error.h"
#include "parallel/attention/handshake.h"
#include "parallel/attention/nccl_pair.h"
#include "parallel/attention/socket_link.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kProofTime{5000};
constexpr milliseconds kNoFilesPause{100};  // after the system had no descriptor for us
constexpr milliseconds kNothingDue{3'600'000};
constexpr milliseconds kUpgradeTime{20'000}, kUpgradeTick{5};
constexpr int kMaxUnproved = 32;

// A connection that is not yet a worker's.
struct Visitor {
  Socket socket;
  RankHandshake handshake;
  Clock::time_point deadline;
  FrameReader frames;
  Bytes unsent;
  Welcome welcome;
  std::optional<SharedRegion> memory;
  bool refused = false;  // its refusal is on the way; what it says is not read any more
  bool gone = false;

  bool awaits_payload() const {
    return !gone && !refused && handshake.stage() == RankHandshake::Stage::settled &&
           handshake.opening().purpose == Purpose::control && !handshake.shared_memory();
  }
};

Nonce fresh_nonce() {
  Nonce nonce;
  fill_random(nonce);
  return nonce;
}

}  // namespace

struct PairListener::State {
  WorkerToken token{};
  std::string numerics;
  PairTerms terms;
  bool allow_shared_memory = true;
  uint16_t port = 0;
  Socket listener;
  std::list<Visitor> visitors;  // oldest first
  int64_t refused = 0;
  Clock::time_point accept_again{};
  std::optional<int> nccl_gpu;
  struct Upgrading {
    WorkerHello hello;
    std::unique_ptr<NcclUpgrade> upgrade;  // null: done
  };
  std::list<Upgrading> upgrading;

  void accept();
  void make_room();
  void step(Visitor& visitor);
  void receive(Visitor& visitor);
  void greet(Visitor& visitor);
  void refuse(Visitor& visitor, const std::string& text);
  void leave(Visitor& visitor);
  Visitor* find_control(const SessionId& session);
  std::unique_ptr<PairLink> link(Visitor& control, Visitor* payload);
  void settle(Visitor& visitor, std::vector<Joined>& joined);
  void join(const WorkerHello& hello, std::unique_ptr<PairLink> link, std::vector<Joined>& joined);
  void go_on_upgrading(std::vector<Joined>& joined);
};

PairListener::PairListener(const WorkerToken& token, const std::string& numerics,
                           const PairTerms& terms, bool allow_shared_memory, DoorReach reach,
                           std::optional<int> nccl_gpu)
    : state_(new State) {
  check_terms(terms);
  state_->token = token;
  state_->numerics = numerics;
  state_->terms = terms;
  state_->allow_shared_memory = allow_shared_memory;
  state_->nccl_gpu = nccl_gpu;
  state_->listener =
      reach == DoorReach::host ? listen_on_host(state_->port) : listen_anywhere(state_->port);
}

PairListener::~PairListener() = default;

uint16_t PairListener::port() const {
  return state_->port;
}

int64_t PairListener::refused() const {
  return state_->refused;
}

void PairListener::close() {
  state_->listener = {};
  state_->visitors.clear();
  state_->upgrading.clear();
}

void PairListener::State::accept() {
  if (!listener || Clock::now() < accept_again) return;
  for (int i = 0; i < kMaxUnproved; ++i) {
    std::string error;
    std::optional<Socket> socket = accept_one(listener, error);
    if (!error.empty()) accept_again = Clock::now() + kNoFilesPause;
    if (!socket) return;
    make_room();
    visitors.push_back({std::move(*socket),
                        RankHandshake(token, numerics, fresh_nonce()),
                        Clock::now() + kProofTime,
                        {},
                        {},
                        {},
                        {}});
  }
}

// A crowd must not keep a worker out: who was refused already goes first, then who has waited
// longest, first of those that have not said anything.
void PairListener::State::make_room() {
  const auto proved = [](const Visitor& v) { return v.handshake.proved(); };
  const auto count = std::count_if(visitors.begin(), visitors.end(),
                                   [&](const Visitor& v) { return v.refused || !proved(v); });
  if (count < kMaxUnproved) return;
  const auto rank = [&](const Visitor& v) {
    if (v.refused) return 0;
    return proved(v) ? 3 : v.handshake.stage() == RankHandshake::Stage::opening ? 1 : 2;
  };
  const auto victim =
      std::min_element(visitors.begin(), visitors.end(),
                       [&](const Visitor& a, const Visitor& b) { return rank(a) < rank(b); });
  leave(*victim);
  visitors.erase(victim);
}

void PairListener::State::leave(Visitor& visitor) {
  if (!visitor.refused && !visitor.gone) ++refused;
  visitor.gone = true;
}

void PairListener::State::refuse(Visitor& visitor, const std::string& text) {
  if (!visitor.frames.spoke_protocol()) return leave(visitor);
  append_refusal(visitor.unsent, text);
  visitor.refused = true;
  ++refused;
}

Visitor* PairListener::State::find_control(const SessionId& session) {
  for (Visitor& visitor : visitors)
    if (visitor.awaits_payload() && visitor.welcome.session == session) return &visitor;
  return nullptr;
}

void PairListener::State::greet(Visitor& visitor) {
  Nonce in_memory{};
  const Opening& opening = visitor.handshake.opening();
  if (opening.purpose == Purpose::payload) {
    const Visitor* control = find_control(opening.session);
    if (!control)
      fail(ExitCode::bad_data,
           "payload connection: expected a session that waits for it, found none");
    visitor.welcome = {control->welcome.terms, opening.session, ""};
  } else {
    visitor.welcome.terms = terms;
    ++terms.epoch;
    fill_random(visitor.welcome.session);
    if (allow_shared_memory && visitor.socket.peer_has_own_address())
      visitor.memory = SharedRegion::create(SlotMemory::bytes(terms));
    if (visitor.memory) {
      in_memory = fresh_nonce();
      std::memcpy(visitor.memory->data(), in_memory.data(), in_memory.size());
      visitor.welcome.memory = visitor.memory->path();
    }
  }
  visitor.handshake.welcome(visitor.welcome, in_memory);
}

// Reads frame by frame and nothing behind the last one, which is the link's.
void PairListener::State::receive(Visitor& visitor) {
  while (!visitor.gone && visitor.handshake.stage() != RankHandshake::Stage::settled) {
    std::array<std::byte, kFrameHeaderBytes + kMaxFrameBody> room;
    const Transfer came =
        visitor.socket.receive(std::span(room).first(visitor.frames.wanted_bytes()));
    if (came.would_wait()) return;
    if (came.bytes == 0) return leave(visitor);
    visitor.frames.add(BytesView(room).first(came.bytes));
    while (const std::optional<Frame> frame = visitor.frames.next()) {
      visitor.handshake.receive(*frame);
      if (visitor.handshake.stage() == RankHandshake::Stage::proved) greet(visitor);
    }
    const Bytes output = visitor.handshake.take_output();
    append(visitor.unsent, output);
  }
}

void PairListener::State::step(Visitor& visitor) {
  if (Clock::now() >= visitor.deadline) {
    // No time to linger: the text goes out if there is room for it.
    const char* missing =
        visitor.handshake.proved() ? "no end of the handshake" : "no proof of the token";
    if (!visitor.refused) refuse(visitor, fmt::format("{} in {}", missing, kProofTime));
    if (!visitor.unsent.empty()) (void)visitor.socket.send(visitor.unsent);
    return leave(visitor);
  }
  if (!visitor.refused) {
    try {
      receive(visitor);
    } catch (const Error& error) {
      refuse(visitor, error.what());
    }
  }
  if (visitor.gone) return;
  if (!visitor.unsent.empty()) {
    const Transfer sent = visitor.socket.send(visitor.unsent);
    if (!sent.error.empty()) return leave(visitor);
    visitor.unsent.erase(visitor.unsent.begin(),
                         visitor.unsent.begin() + static_cast<ptrdiff_t>(sent.bytes));
  }
  if (!visitor.refused || !visitor.unsent.empty()) return;
  // Closing with bytes unread would reset the connection, and the refusal might be lost.
  visitor.socket.shut_down_sending();
  std::array<std::byte, 4096> ignored;
  const Transfer came = visitor.socket.receive(ignored);
  if (came.bytes == 0 && !came.would_wait()) leave(visitor);
}

std::unique_ptr<PairLink> PairListener::State::link(Visitor& control, Visitor* payload) {
  const WorkerHello& hello = control.handshake.opening().hello;
  if (control.memory) control.memory->close_path();
  SlotMemory slots = control.handshake.shared_memory()
                         ? SlotMemory(control.welcome.terms, std::move(*control.memory))
                         : SlotMemory(control.welcome.terms);
  control.gone = true;
  if (payload) payload->gone = true;
  return make_socket_link({PairEnd::rank, control.welcome.terms,
                           fmt::format("worker {} on {}", hello.process, hello.host),
                           std::move(control.socket),
                           payload ? std::move(payload->socket) : Socket(), std::move(slots),
                           std::move(control.unsent)});
}

void PairListener::State::settle(Visitor& visitor, std::vector<Joined>& joined) {
  if (visitor.gone || visitor.refused || visitor.handshake.stage() != RankHandshake::Stage::settled)
    return;
  const WorkerHello& hello = visitor.handshake.opening().hello;
  if (visitor.handshake.opening().purpose == Purpose::control) {
    if (!visitor.handshake.shared_memory()) return visitor.memory.reset();
    join(hello, link(visitor, nullptr), joined);
  } else if (visitor.unsent.empty()) {  // from here on the stream is all payload
    Visitor* control = find_control(visitor.handshake.opening().session);
    if (!control) return leave(visitor);
    join(control->handshake.opening().hello, link(*control, &visitor), joined);
  }
}

// A worker with a GPU's number waits for an offer, also for one that nothing comes of.
void PairListener::State::join(const WorkerHello& hello, std::unique_ptr<PairLink> link,
                               std::vector<Joined>& joined) {
  if (hello.gpu == 0) return joined.push_back({hello, std::move(link)});
  const uint64_t own = nccl_gpu ? nccl_gpu_number(*nccl_gpu) : 0;
  const bool possible = own != 0 && own != hello.gpu;
  if (!possible) {
    link->post(NcclOffer{});
    return joined.push_back({hello, std::move(link)});
  }
  upgrading.push_back(
      {hello, begin_nccl_upgrade(std::move(link), PairEnd::rank, *nccl_gpu, kUpgradeTime)});
}

void PairListener::State::go_on_upgrading(std::vector<Joined>& joined) {
  for (Upgrading& one : upgrading) {
    try {
      std::unique_ptr<PairLink> link = one.upgrade->step();
      if (!link) continue;
      joined.push_back({one.hello, std::move(link)});
    } catch (const Error&) {  // the worker sees the connection closed, and may come again
      ++refused;
    }
    one.upgrade.reset();
  }
  upgrading.remove_if([](const Upgrading& one) { return !one.upgrade; });
}

std::vector<PairListener::Joined> PairListener::pump() {
  state_->accept();
  std::vector<Joined> joined;
  for (Visitor& visitor : state_->visitors) {
    if (!visitor.gone) state_->step(visitor);
    try {
      state_->settle(visitor, joined);
    } catch (const Error&) {  // no memory for its slots: the worker sees the connection closed
      state_->leave(visitor);
    }
  }
  state_->visitors.remove_if([](const Visitor& visitor) { return visitor.gone; });
  state_->go_on_upgrading(joined);
  return joined;
}

void PairListener::add_waits(std::vector<pollfd>& out) const {
  if (state_->listener && Clock::now() >= state_->accept_again)
    out.push_back({state_->listener.descriptor(), POLLIN, 0});
  for (const Visitor& visitor : state_->visitors) {
    // One that waits for its payload connection has nothing to say before.
    const bool reading = !visitor.awaits_payload(), sending = !visitor.unsent.empty();
    if (reading || sending)
      out.push_back({visitor.socket.descriptor(),
                     static_cast<short>((reading ? POLLIN : 0) | (sending ? POLLOUT : 0)), 0});
  }
}

milliseconds PairListener::next_deadline() const {
  const auto now = Clock::now();
  auto due = now + kNothingDue;
  if (state_->accept_again > now) due = std::min(due, state_->accept_again);
  for (const Visitor& visitor : state_->visitors) due = std::min(due, visitor.deadline);
  if (!state_->upgrading.empty()) due = std::min(due, now + kUpgradeTick);
  return std::max(std::chrono::ceil<milliseconds>(due - now), milliseconds(0));
}

}  // namespace longtake
