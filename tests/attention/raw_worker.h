// A worker that does the handshake by hand over real sockets and then sends what a test likes.
#pragma once

#include "parallel/attention/handshake.h"
#include "parallel/attention/socket.h"
#include "parallel/attention/wire.h"
#include "tests/attention/door.h"

namespace longtake::testing {

inline void send_all(const Socket& socket, BytesView bytes) {
  const auto end = TestClock::now() + 20s;
  while (!bytes.empty()) {
    const Transfer sent = socket.send(bytes);
    if (!sent.error.empty()) fail(ExitCode::io, "raw worker: {}", sent.error);
    if (sent.would_wait() && !wait_for(socket, POLLOUT, end))
      fail(ExitCode::watchdog, "raw worker: nobody reads");
    bytes = bytes.subspan(sent.bytes);
  }
}

// The next frame, or nothing when the rank closed the connection.
inline std::optional<Frame> read_frame(const Socket& socket) {
  const auto end = TestClock::now() + 20s;
  FrameReader reader;
  while (true) {
    if (auto frame = reader.next()) return frame;
    std::array<std::byte, 2048> room;
    const Transfer came = socket.receive(std::span(room).first(reader.wanted_bytes()));
    if (came.closed || !came.error.empty()) return std::nullopt;
    if (came.would_wait() && !wait_for(socket, POLLIN, end))
      fail(ExitCode::watchdog, "raw worker: no frame");
    reader.add(BytesView(room).first(came.bytes));
  }
}

inline std::string text_of(const std::optional<Frame>& frame) {
  if (!frame) return "closed without a word";
  if (frame->type != FrameType::refusal) return "not a refusal";
  return {reinterpret_cast<const char*>(frame->body.data()), frame->body.size()};
}

struct RawWorker {
  Socket control, payload;

  // `early` goes out in one piece with the last frame of the handshake.
  RawWorker(uint16_t port, const WorkerToken& token, const Bytes& early = {},
            const WorkerHello& told = hello()) {
    SessionId session{};
    control = enter(port, token, Purpose::control, session, early, told);
    payload = enter(port, token, Purpose::payload, session, {}, told);
  }

  static Socket dial(uint16_t port) {
    return connect_to("127.0.0.1", port, TestClock::now() + 20s);
  }

  // `session`: given with the purpose payload, found otherwise.
  static Socket enter(uint16_t port, const WorkerToken& token, Purpose purpose, SessionId& session,
                      const Bytes& early = {}, const WorkerHello& told = hello()) {
    Socket socket = dial(port);
    Opening opening{purpose, {}, session, told};
    fill_random(opening.nonce);
    WorkerHandshake handshake(token, opening);
    const auto exchange = [&](const Bytes& behind = {}) {
      Bytes output = handshake.take_output();
      append(output, behind);
      send_all(socket, output);
      const auto frame = read_frame(socket);
      if (!frame) fail(ExitCode::io, "raw worker: closed in the handshake");
      handshake.receive(*frame);
    };
    exchange();
    exchange();
    session = handshake.welcome().session;
    if (purpose == Purpose::payload) return socket;
    handshake.answer_memory(std::nullopt);
    exchange(early);
    return socket;
  }
};

struct RawPair {
  std::unique_ptr<PairLink> rank;
  RawWorker worker;
};

inline RawPair join_raw(PairListener& door, const WorkerToken& token) {
  auto worker = std::async(std::launch::async,
                           [token, port = door.port()] { return RawWorker(port, token); });
  auto joined = wait_joined(door);
  REQUIRE(joined);
  return {std::move(joined->link), worker.get()};
}

}  // namespace longtake::testing
