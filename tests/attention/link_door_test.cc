// The rank's door over real sockets: who is let in, who is not and what they are told.
#include <ifaddrs.h>
#include <netdb.h>
#include <sys/socket.h>

#include "parallel/attention/slot_memory.h"
#include "tests/attention/raw_worker.h"
#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

// Drives the door until the future is there; nobody may come in meanwhile.
template <class T>
void drive_until_ready(PairListener& door, std::future<T>& done) {
  CHECK(drive(door, [&] {
    CHECK(door.pump().empty());
    return done.wait_for(0s) == std::future_status::ready;
  }));
}

std::string refusal_after(PairListener& door, const Bytes& bytes) {
  auto told = std::async(std::launch::async, [&, port = door.port()] {
    const Socket socket = RawWorker::dial(port);
    send_all(socket, bytes);
    return text_of(read_frame(socket));
  });
  drive_until_ready(door, told);
  return told.get();
}

Bytes opening_frame(uint16_t version = kProtocolVersion) {
  Opening opening{Purpose::control, {}, {}, hello()};
  fill_random(opening.nonce);
  Bytes out = WorkerHandshake(WorkerToken{}, opening).take_output();
  out[4] = static_cast<std::byte>(version);
  return out;
}

// The IPv4 addresses of this host's interfaces, 127.0.0.1 left out.
std::vector<std::string> other_addresses() {
  ifaddrs* first = nullptr;
  REQUIRE(::getifaddrs(&first) == 0);
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> all(first, ::freeifaddrs);
  std::vector<std::string> out;
  for (const ifaddrs* one = first; one; one = one->ifa_next) {
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
    std::array<char, NI_MAXHOST> text{};
    REQUIRE(::getnameinfo(one->ifa_addr, sizeof(sockaddr_in), text.data(), text.size(), nullptr, 0,
                          NI_NUMERICHOST) == 0);
    if (std::string(text.data()) != "127.0.0.1") out.emplace_back(text.data());
  }
  return out;
}

}  // namespace

TEST_CASE("a wrong token and other numerics are refused in words that reach the worker") {
  PairListener door(random_token(), kNumerics, kTerms);
  auto stranger = connect_aside(door.port(), random_token(), hello());
  drive_until_ready(door, stranger);
  const Error wrong = error_of([&] { (void)stranger.get(); });
  CHECK(mentions(wrong, "rank 0 at 127.0.0.1 port"));
  CHECK(mentions(wrong, "refused: wrong token"));
  CHECK(door.refused() == 1);

  const WorkerToken token = random_token();
  PairListener other(token, kNumerics, kTerms);
  WorkerHello cuda = hello();
  cuda.numerics = "longtake 0.1.0, cuda, sm_90";
  auto worker = connect_aside(other.port(), token, cuda);
  drive_until_ready(other, worker);
  CHECK(mentions(error_of([&] { (void)worker.get(); }),
                 "refused: other numerics: expected `longtake 0.1.0, cpu, avx2`, found `longtake "
                 "0.1.0, cuda, sm_90`"));
  CHECK(other.refused() == 1);
}

TEST_CASE("other versions, oversized and unexpected frames are refused") {
  PairListener door(random_token(), kNumerics, kTerms);
  CHECK(refusal_after(door, opening_frame(1)) == "protocol version: expected 2, found 1");
  Bytes large = opening_frame();
  large[9] = std::byte{0x40};
  CHECK(refusal_after(door, large).starts_with("opening: expected at most 1024 bytes, found 1"));
  Bytes task;
  append_message(task, small_task(), kTerms);
  CHECK(refusal_after(door, task) == "expected a frame `opening`, found `task`");
  Bytes purpose = opening_frame();
  purpose[kFrameHeaderBytes] = std::byte{7};
  CHECK(refusal_after(door, purpose) == "opening: purpose: expected 0 or 1, found 7");
  // What does not speak the protocol at all gets no answer.
  Bytes http(64, std::byte{'G'});
  CHECK(refusal_after(door, http) == "closed without a word");
  CHECK(door.refused() == 5);
}

TEST_CASE("a recorded handshake cannot be played again") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms, false);
  Opening opening{Purpose::control, {}, {}, hello()};
  fill_random(opening.nonce);
  WorkerHandshake handshake(token, opening);
  const Bytes first = handshake.take_output();
  Bytes proof;
  auto honest = std::async(std::launch::async, [&, port = door.port()] {
    const Socket socket = RawWorker::dial(port);
    send_all(socket, first);
    handshake.receive(*read_frame(socket));
    proof = handshake.take_output();
    send_all(socket, proof);
    return read_frame(socket)->type == FrameType::welcome;
  });
  drive_until_ready(door, honest);
  REQUIRE(honest.get());

  auto replay = std::async(std::launch::async, [&, port = door.port()] {
    const Socket socket = RawWorker::dial(port);
    send_all(socket, first);
    if (read_frame(socket)->type != FrameType::challenge) return std::string("no challenge");
    send_all(socket, proof);
    return text_of(read_frame(socket));
  });
  drive_until_ready(door, replay);
  CHECK(replay.get() == "wrong token: it is that of another run");
}

TEST_CASE("a payload connection needs the proof and a session that waits for it") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms, false);
  auto told = std::async(std::launch::async, [&, port = door.port()] {
    const Socket socket = RawWorker::dial(port);
    Opening opening{Purpose::payload, {}, {}, hello()};
    fill_random(opening.nonce);
    WorkerHandshake handshake(token, opening);
    send_all(socket, handshake.take_output());
    handshake.receive(*read_frame(socket));
    send_all(socket, handshake.take_output());
    return text_of(read_frame(socket));
  });
  drive_until_ready(door, told);
  CHECK(told.get() == "payload connection: expected a session that waits for it, found none");
}

TEST_CASE("a payload connection is tied to its own session only") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms, false);
  auto control = std::async(std::launch::async, [&, port = door.port()] {
    SessionId session{};
    Socket socket = RawWorker::enter(port, token, Purpose::control, session);
    return std::pair(std::move(socket), session);
  });
  drive_until_ready(door, control);
  const auto [socket, session] = control.get();
  SessionId other = session;
  other[0] ^= std::byte{1};

  auto wrong = std::async(std::launch::async, [&, port = door.port()] {
    return RawWorker::enter(port, token, Purpose::payload, other);
  });
  drive_until_ready(door, wrong);

  CHECK(mentions(error_of([&] { (void)wrong.get(); }), "expected a session that waits for it"));
}

TEST_CASE("what comes right behind the handshake belongs to the link, at either end") {
  const WorkerToken token = random_token();
  Bytes beat;
  append_message(beat, Heartbeat{77}, kTerms);

  PairListener door(token, kNumerics, kTerms, false);
  auto worker = std::async(std::launch::async,
                           [&, port = door.port()] { return RawWorker(port, token, beat); });
  auto joined = wait_joined(door);
  REQUIRE(joined);
  const RawWorker raw = worker.get();
  CHECK(std::get<Heartbeat>(wait_messages(*joined->link, 1).at(0)).queued == 77);

  uint16_t port = 0;
  const Socket listener = listen_anywhere(port);
  auto honest = connect_aside(port, token, hello());
  std::string error;
  REQUIRE(wait_for(listener, POLLIN, TestClock::now() + 20s));
  const std::optional<Socket> control = accept_one(listener, error);
  REQUIRE(control);
  RankHandshake rank(token, kNumerics, {});
  const auto region = SharedRegion::create(SlotMemory::bytes(kTerms));
  REQUIRE(region);  // its nonce is zeros
  while (rank.stage() != RankHandshake::Stage::settled) {
    rank.receive(*read_frame(*control));
    if (rank.stage() == RankHandshake::Stage::proved)
      rank.welcome({kTerms, {}, region->path()}, Nonce{});
    Bytes output = rank.take_output();
    if (rank.stage() == RankHandshake::Stage::settled) append(output, beat);
    send_all(*control, output);
  }
  const auto link = honest.get();
  CHECK(link->shared_memory());
  CHECK(std::get<Heartbeat>(wait_messages(*link, 1).at(0)).queued == 77);
}

TEST_CASE("sending to a closed socket is an error and raises no signal") {
  uint16_t port = 0;
  const Socket listener = listen_anywhere(port);
  const Socket sender = RawWorker::dial(port);
  std::string error;
  REQUIRE(wait_for(listener, POLLIN, TestClock::now() + 20s));
  {
    const std::optional<Socket> accepted = accept_one(listener, error);
    REQUIRE(accepted);
  }
  const auto end = TestClock::now() + 20s;
  std::vector<std::string> errors;
  while (errors.size() < 2 && TestClock::now() < end) {
    const Transfer sent = sender.send(Bytes(100));
    if (!sent.error.empty()) errors.push_back(sent.error);
  }

  REQUIRE(errors.size() == 2);
  CHECK(errors[1] == "Broken pipe");
}

TEST_CASE("who does not prove the token in 5 s is told and closed, at any stage") {
  PairListener door(random_token(), kNumerics, kTerms);
  const auto start = TestClock::now();
  Bytes half = opening_frame();
  half.resize(20);
  std::vector<std::future<std::string>> told;
  for (const Bytes& words : {Bytes(), half, opening_frame()})
    told.push_back(std::async(std::launch::async, [words, port = door.port()] {
      const Socket socket = RawWorker::dial(port);
      send_all(socket, words);
      std::string out;
      while (const auto frame = read_frame(socket)) out += text_of(frame) + "; ";
      return out;
    }));
  for (auto& one : told) drive_until_ready(door, one);

  const double waited = std::chrono::duration<double>(TestClock::now() - start).count();
  CHECK(waited >= 4.9);
  CHECK(waited < 12);
  CHECK(told[0].get() == "");
  CHECK(told[1].get() == "no proof of the token in 5000ms; ");
  CHECK(told[2].get() == "not a refusal; no proof of the token in 5000ms; ");
  CHECK(door.refused() == 3);
}

TEST_CASE("the next deadline is the first that is due, and the door sleeps until then") {
  PairListener door(random_token(), kNumerics, kTerms);
  CHECK(door.next_deadline() == std::chrono::hours(1));
  const Socket silent = RawWorker::dial(door.port());
  CHECK(door.pump().empty());
  CHECK(door.next_deadline() <= 5s);
  CHECK(door.next_deadline() > 3s);
  std::vector<pollfd> waits;
  door.add_waits(waits);
  CHECK(waits.size() == 2);
  CHECK(::poll(waits.data(), waits.size(), 0) == 0);
}

TEST_CASE("100 garbage connections do not keep a worker out nor disturb one that is in") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms, false);
  const LinkedPair pair = join(door, token);
  std::vector<Socket> garbage;
  for (int i = 0; i < 100; ++i) {
    garbage.push_back(RawWorker::dial(door.port()));
    const auto noise = random_bytes(static_cast<size_t>(i * 7 % 300), static_cast<uint32_t>(i));
    if (i % 3 == 0) send_all(garbage.back(), opening_frame());
    if (i % 3 == 1) send_all(garbage.back(), noise);
    if (i % 5 == 0) (void)door.pump();
  }

  LinkedPair late = join(door, token);
  for (const LinkedPair* each : {&pair, static_cast<const LinkedPair*>(&late)}) {
    AttentionTask task = small_task();
    const auto payload = random_bytes(task.payload_bytes(), 2);
    std::memcpy(each->rank->task_payload(0), payload.data(), payload.size());
    each->rank->post(task);
    flush(*each->rank);
    CHECK(std::get<AttentionTask>(wait_messages(*each->worker, 1).at(0)).id == 11);
    CHECK(std::memcmp(each->worker->task_payload(0), payload.data(), payload.size()) == 0);
  }
  std::vector<pollfd> waits;
  door.add_waits(waits);
  CHECK(waits.size() <= 1 + 32);
  CHECK(door.refused() >= 100 - 32);
  CHECK(late.rank->terms().epoch == 8);
}

TEST_CASE("nobody there, nobody answers, no such host: errors with the address and in time") {
  uint16_t port = 0;
  { const Socket closed = listen_anywhere(port); }
  const auto connect = [&](const std::string& host, std::chrono::milliseconds limit) {
    return error_of([&] { (void)connect_pair({3, host, port}, random_token(), hello(), limit); });
  };
  CHECK(
      mentions(connect("127.0.0.1", 5s), fmt::format("rank 3 at 127.0.0.1 port {}: nobody", port)));
  CHECK(mentions(connect("no such host", 5s), "host no such host: "));
  const Socket mute = listen_anywhere(port);
  const auto start = TestClock::now();
  const Error error = connect("127.0.0.1", 300ms);
  CHECK(mentions(error, "no word from it before the deadline"));
  CHECK(error.code() == ExitCode::watchdog);
  CHECK(TestClock::now() - start < 5s);
}

TEST_CASE("a door for this host is at 127.0.0.1 and at no other address") {
  const WorkerToken token = random_token();
  PairListener here(token, kNumerics, kTerms, false, DoorReach::host);
  PairListener anywhere(token, kNumerics, kTerms, false, DoorReach::anywhere);
  std::vector<std::string> others = other_addresses();
  others.push_back("127.0.0.2");
  for (const std::string& host : others) {
    CAPTURE(host);
    CHECK(mentions(error_of([&] {
                     (void)connect_pair({0, host, here.port()}, token, hello(), 5s);
                   }),
                   fmt::format("nobody at {} port {}: Connection refused", host, here.port())));
    (void)join(anywhere, token, host);
  }

  (void)join(here, token, "127.0.0.1");
  CHECK(here.refused() == 0);
}

TEST_CASE("a closed door lets nobody in; the links that were made stay") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms);
  const LinkedPair pair = join(door, token);
  door.close();
  CHECK(door.pump().empty());
  CHECK_THROWS_AS((void)connect_pair({0, "127.0.0.1", door.port()}, token, hello(), 2s), Error);
  pair.rank->post(Heartbeat{1});
  flush(*pair.rank);
  CHECK(wait_messages(*pair.worker, 1).size() == 1);
  std::vector<pollfd> waits;
  door.add_waits(waits);
  CHECK(waits.empty());
}

}  // namespace longtake
