#include <cstring>
#include <thread>

#include "kernels/base/error.h"
#include "parallel/attention/handshake.h"
#include "parallel/attention/nccl_pair.h"
#include "parallel/attention/socket_link.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

class Connecting {
 public:
  Connecting(const PairAddress& address, const WorkerToken& token, const WorkerHello& hello,
             std::chrono::milliseconds limit, int gpu)
      : address_(address),
        token_(token),
        hello_(hello),
        deadline_(Clock::now() + limit),
        gpu_(gpu) {}

  std::unique_ptr<PairLink> run() const {
    std::unique_ptr<PairLink> link = through_host();
    return hello_.gpu == 0 ? std::move(link) : upgraded(std::move(link));
  }

  std::string name() const {
    return fmt::format("rank {} at {} port {}", address_.rank, address_.host, address_.port);
  }

 private:
  std::unique_ptr<PairLink> through_host() const {
    Socket control = connect_to(address_.host, address_.port, deadline_);
    WorkerHandshake handshake(token_, opening(Purpose::control, {}));
    advance(control, handshake, WorkerHandshake::Stage::welcomed);
    const Welcome welcome = handshake.welcome();
    std::optional<SharedRegion> memory;
    std::optional<Nonce> in_memory;
    if (!welcome.memory.empty())
      memory = SharedRegion::open(welcome.memory, SlotMemory::bytes(welcome.terms));
    if (memory) std::memcpy(in_memory.emplace().data(), memory->data(), sizeof(Nonce));
    handshake.answer_memory(in_memory);
    advance(control, handshake, WorkerHandshake::Stage::settled);
    Socket payload = handshake.shared_memory() ? Socket() : connect_payload(welcome.session);
    SlotMemory slots = handshake.shared_memory() ? SlotMemory(welcome.terms, std::move(*memory))
                                                 : SlotMemory(welcome.terms);
    return make_socket_link({PairEnd::worker,
                             welcome.terms,
                             name(),
                             std::move(control),
                             std::move(payload),
                             std::move(slots),
                             {}});
  }

  std::unique_ptr<PairLink> upgraded(std::unique_ptr<PairLink> link) const {
    constexpr std::chrono::milliseconds kTick{2};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now());
    const auto upgrade = begin_nccl_upgrade(std::move(link), PairEnd::worker, gpu_, left);
    std::unique_ptr<PairLink> out;
    while (!(out = upgrade->step())) std::this_thread::sleep_for(kTick);
    return out;
  }

  Opening opening(Purpose purpose, const SessionId& session) const {
    Opening out{purpose, {}, session, hello_};
    fill_random(out.nonce);
    return out;
  }

  Socket connect_payload(const SessionId& session) const {
    Socket payload = connect_to(address_.host, address_.port, deadline_);
    WorkerHandshake handshake(token_, opening(Purpose::payload, session));
    advance(payload, handshake, WorkerHandshake::Stage::welcomed);
    return payload;
  }

  void advance(const Socket& socket, WorkerHandshake& handshake,
               WorkerHandshake::Stage until) const {
    send(socket, handshake.take_output());
    FrameReader frames;
    while (handshake.stage() != until) {
      std::array<std::byte, kFrameHeaderBytes + kMaxFrameBody> room;
      const Transfer came = socket.receive(std::span(room).first(frames.wanted_bytes()));
      if (!came.error.empty()) fail(ExitCode::io, "the handshake failed: {}", came.error);
      if (came.closed) fail(ExitCode::io, "closed the connection in the handshake");
      if (came.would_wait()) wait(socket, POLLIN);
      frames.add(BytesView(room).first(came.bytes));
      if (const std::optional<Frame> frame = frames.next()) handshake.receive(*frame);
      send(socket, handshake.take_output());
    }
  }

  // A rank that refuses may have closed already: its reason is still to be read.
  void send(const Socket& socket, BytesView bytes) const {
    while (!bytes.empty()) {
      const Transfer sent = socket.send(bytes);
      if (!sent.error.empty()) return;
      if (sent.would_wait()) wait(socket, POLLOUT);
      bytes = bytes.subspan(sent.bytes);
    }
  }

  void wait(const Socket& socket, short events) const {
    if (!wait_for(socket, events, deadline_))
      fail(ExitCode::watchdog, "no word from it before the deadline");
  }

  const PairAddress& address_;
  const WorkerToken& token_;
  const WorkerHello& hello_;
  Clock::time_point deadline_;
  int gpu_;
};

}  // namespace

std::unique_ptr<PairLink> connect_pair(const PairAddress& address, const WorkerToken& token,
                                       const WorkerHello& hello, std::chrono::milliseconds deadline,
                                       int gpu) {
  const Connecting connecting(address, token, hello, deadline, gpu);
  try {
    return connecting.run();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", connecting.name(), error.what()));
  }
}

}  // namespace longtake
