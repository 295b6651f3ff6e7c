// Both ends of the handshake as functions of bytes: a proof is good once, one way, for one text.
#include "parallel/attention/handshake.h"

#include <functional>

#include "parallel/attention/wire.h"
#include "tests/attention/door.h"
#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

template <size_t size>
std::array<std::byte, size> filled(uint8_t value) {
  std::array<std::byte, size> out;
  out.fill(std::byte{value});
  return out;
}

Nonce random_nonce() {
  Nonce nonce;
  fill_random(nonce);
  return nonce;
}

Opening opening(Purpose purpose = Purpose::control) {
  return {purpose, random_nonce(), {}, hello()};
}

template <class End>
void feed(End& end, const Bytes& bytes) {
  FrameReader reader;
  reader.add(bytes);
  while (const auto frame = reader.next()) end.receive(*frame);
}

struct Meeting {
  WorkerToken token = random_token();
  RankHandshake rank{token, kNumerics, random_nonce()};
  WorkerHandshake worker{token, opening()};
  Welcome welcome{kTerms, filled<16>(5), "/proc/1/fd/2"};
  Nonce in_memory = random_nonce();

  void until_proved() {
    feed(rank, worker.take_output());
    feed(worker, rank.take_output());
    feed(rank, worker.take_output());
  }
  void until_welcomed() {
    until_proved();
    rank.welcome(welcome, in_memory);
    feed(worker, rank.take_output());
  }
  void answer(const std::optional<Nonce>& read) {
    worker.answer_memory(read);
    feed(rank, worker.take_output());
    feed(worker, rank.take_output());
  }
};

}  // namespace

TEST_CASE("a proof is HMAC-SHA256 of the label, a zero and the parts") {
  WorkerToken key{};
  std::memcpy(key.data(), "Jefe", 4);
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };

  const Proof proof =
      prove(key, "longtake worker", {bytes("what do ya "), bytes("want for nothing?")});
  std::string hex;
  for (const std::byte byte : proof) hex += fmt::format("{:02x}", std::to_integer<int>(byte));

  // python3: hmac.new(b"Jefe" + bytes(28), b"longtake worker\0what do ...", "sha256").hexdigest()
  CHECK(hex == "46437554c236bad1deb9adb162ae00356150fca37265fcb2b6249b849ace350c");
  CHECK(proof != prove(key, "longtake rank", {bytes("what do ya want for nothing?")}));
}

TEST_CASE("who has the token is let in, with shared memory or without") {
  for (const bool maps : {true, false}) {
    Meeting meeting;
    CHECK_FALSE(meeting.rank.proved());
    meeting.until_welcomed();
    CHECK(meeting.rank.proved());
    CHECK(meeting.rank.opening().hello.process == 4242);
    CHECK(meeting.rank.opening().hello.instance == 4242000);
    CHECK(meeting.rank.opening().hello.host == "node7");
    CHECK(meeting.worker.welcome().terms.epoch == 7);
    CHECK(meeting.worker.welcome().terms.slots == 2);
    CHECK(meeting.worker.welcome().terms.task_bytes == 40000);
    CHECK(meeting.worker.welcome().terms.answer_bytes == 10000);
    CHECK(meeting.worker.welcome().memory == "/proc/1/fd/2");

    meeting.answer(maps ? std::optional(meeting.in_memory) : std::nullopt);

    CHECK(meeting.rank.stage() == RankHandshake::Stage::settled);
    CHECK(meeting.worker.stage() == WorkerHandshake::Stage::settled);
    CHECK(meeting.rank.shared_memory() == maps);
    CHECK(meeting.worker.shared_memory() == maps);
  }
}

TEST_CASE("a worker that mapped some other memory gets sockets") {
  Meeting meeting;
  meeting.until_welcomed();

  meeting.answer(random_nonce());

  CHECK_FALSE(meeting.rank.shared_memory());
  CHECK_FALSE(meeting.worker.shared_memory());
}

TEST_CASE("another token is refused by the rank, and does not help a false rank") {
  Meeting meeting;
  WorkerToken one_bit_off = meeting.token;
  one_bit_off[31] ^= std::byte{1};
  WorkerHandshake worker(one_bit_off, opening());
  feed(meeting.rank, worker.take_output());
  feed(worker, meeting.rank.take_output());
  CHECK(mentions(error_of([&] { feed(meeting.rank, worker.take_output()); }), "wrong token"));
  CHECK_FALSE(meeting.rank.proved());

  // A rank that lets anybody in still cannot prove the worker's token.
  Meeting other;
  WorkerHandshake honest(one_bit_off, opening());
  RankHandshake false_rank(other.token, kNumerics, random_nonce());
  feed(false_rank, other.worker.take_output());
  feed(other.worker, false_rank.take_output());
  feed(false_rank, other.worker.take_output());
  false_rank.welcome(other.welcome, {});
  Bytes challenge;
  append_frame(challenge, FrameType::challenge, random_nonce());
  feed(honest, challenge);
  CHECK(mentions(error_of([&] { feed(honest, false_rank.take_output()); }),
                 "did not prove the token"));
}

TEST_CASE("a recorded proof is of no use, and neither is one for another opening") {
  Meeting recorded;
  const Bytes first = recorded.worker.take_output();
  feed(recorded.rank, first);
  feed(recorded.worker, recorded.rank.take_output());
  const Bytes proof = recorded.worker.take_output();

  RankHandshake again(recorded.token, kNumerics, random_nonce());
  feed(again, first);
  CHECK(mentions(error_of([&] { feed(again, proof); }), "wrong token"));

  // The same nonce of the rank, but another hello (no rank draws the same twice; here it does).
  const Nonce nonce = random_nonce();
  RankHandshake one(recorded.token, kNumerics, nonce), two(recorded.token, kNumerics, nonce);
  Opening mine = opening(), theirs = mine;
  theirs.hello.process = 1;
  WorkerHandshake good(recorded.token, mine), other(recorded.token, theirs);
  feed(one, good.take_output());
  feed(good, one.take_output());
  const Bytes good_proof = good.take_output();
  feed(two, other.take_output());
  CHECK_THROWS_AS(feed(two, good_proof), Error);
  feed(one, good_proof);
  CHECK(one.proved());
}

TEST_CASE("a reflected proof fails both ways") {
  // An impostor without the token plays rank to a worker, with the true rank's challenge, and
  // sends each proof back to where it came from.
  Meeting meeting;
  feed(meeting.rank, meeting.worker.take_output());
  feed(meeting.worker, meeting.rank.take_output());
  FrameReader reader;
  reader.add(meeting.worker.take_output());
  const Frame proof = *reader.next();

  BodyWriter welcome;  // the worker's own proof, as if it were the rank's
  welcome.put(kTerms.epoch);
  welcome.put(kTerms.slots);
  welcome.put(kTerms.task_bytes);
  welcome.put(kTerms.answer_bytes);
  welcome.put(BytesView(SessionId{}));
  welcome.put_text("");
  welcome.put(BytesView(proof.body));
  CHECK(mentions(error_of([&] {
                   meeting.worker.receive({FrameType::welcome, welcome.bytes()});
                 }),
                 "did not prove the token"));

  // And the rank's proof, as if it were a worker's.
  Meeting second;
  second.until_proved();
  second.rank.welcome(second.welcome, {});
  FrameReader words;
  words.add(second.rank.take_output());
  const Bytes body = words.next()->body;
  RankHandshake target(second.token, kNumerics, random_nonce());
  feed(target, WorkerHandshake(second.token, opening()).take_output());
  Frame reflected{FrameType::proof, Bytes(body.end() - 32, body.end())};
  CHECK(mentions(error_of([&] { target.receive(reflected); }), "wrong token"));
}

TEST_CASE("the two ends prove under labels of their own") {
  // A welcome that is right in all but its label; the transcript is that of the true exchange.
  for (const std::string label : {"longtake rank", "longtake worker"}) {
    CAPTURE(label);
    Meeting meeting;
    const Bytes opened = meeting.worker.take_output();
    const Nonce nonce = random_nonce();
    meeting.worker.receive({FrameType::challenge, Bytes(nonce.begin(), nonce.end())});
    BodyWriter body;
    body.put(kTerms.epoch);
    body.put(kTerms.slots);
    body.put(kTerms.task_bytes);
    body.put(kTerms.answer_bytes);
    body.put(BytesView(SessionId{}));
    body.put_text("");
    const Proof proof = prove(meeting.token, label,
                              {BytesView(opened).subspan(kFrameHeaderBytes), nonce, body.bytes()});
    body.put(BytesView(proof));
    const Frame welcome{FrameType::welcome, body.bytes()};

    if (label == "longtake rank")
      meeting.worker.receive(welcome);
    else
      CHECK(mentions(error_of([&] { meeting.worker.receive(welcome); }), "did not prove"));

    CHECK((meeting.worker.stage() == WorkerHandshake::Stage::welcomed) ==
          (label == "longtake rank"));
  }
}

TEST_CASE("a worker takes no terms that it could not keep, not even from the right rank") {
  Meeting meeting;
  meeting.until_proved();
  meeting.welcome.terms.task_bytes = uint64_t{1} << 50;
  meeting.rank.welcome(meeting.welcome, {});

  CHECK(mentions(error_of([&] { feed(meeting.worker, meeting.rank.take_output()); }),
                 "task_bytes: expected 1 to 1099511627776, found 1125899906842624"));
}

TEST_CASE("not one bit of the handshake can be changed on its way") {
  // Flips every bit of what is sent, one at a time; `step` 0-2: opening, challenge, proof, welcome.
  for (int step = 0; step < 4; ++step) {
    size_t bits = 1;
    for (size_t bit = 0; bit < bits; ++bit) {
      Meeting meeting;
      int sent = 0;
      bool refused = false;
      const auto pass = [&](Bytes bytes) {
        if (sent++ != step) return bytes;
        bits = bytes.size() * 8;
        bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
        return bytes;
      };
      try {
        feed(meeting.rank, pass(meeting.worker.take_output()));
        feed(meeting.worker, pass(meeting.rank.take_output()));
        feed(meeting.rank, pass(meeting.worker.take_output()));
        if (meeting.rank.proved()) meeting.rank.welcome(meeting.welcome, meeting.in_memory);
        feed(meeting.worker, pass(meeting.rank.take_output()));
      } catch (const Error&) {
        refused = true;
      }
      if (!refused && meeting.worker.stage() == WorkerHandshake::Stage::welcomed) {
        CAPTURE(step);
        CAPTURE(bit);
        FAIL("let in with a changed bit");
      }
    }
    CHECK(bits > 8 * kFrameHeaderBytes);
  }
}

TEST_CASE("other numerics are refused with both texts, after the proof and not before") {
  Meeting meeting;
  Opening other = opening();
  other.hello.numerics = "longtake 0.2.0, cuda";
  WorkerHandshake worker(meeting.token, other);
  feed(meeting.rank, worker.take_output());
  feed(worker, meeting.rank.take_output());
  CHECK(mentions(error_of([&] { feed(meeting.rank, worker.take_output()); }),
                 "other numerics: expected `longtake 0.1.0, cpu, avx2`, found `longtake 0.2.0, "
                 "cuda`"));

  RankHandshake rank(meeting.token, kNumerics, random_nonce());
  WorkerHandshake stranger(random_token(), other);
  feed(rank, stranger.take_output());
  feed(stranger, rank.take_output());
  CHECK(mentions(error_of([&] { feed(rank, stranger.take_output()); }), "wrong token"));
}

TEST_CASE("frames out of turn are refused at every stage") {
  Meeting meeting;
  const Frame early{FrameType::proof, Bytes(32)};
  CHECK(mentions(error_of([&] { meeting.rank.receive(early); }),
                 "expected a frame `opening`, found `proof`"));
  feed(meeting.rank, meeting.worker.take_output());
  CHECK(mentions(error_of([&] {
                   meeting.rank.receive({FrameType::memory, Bytes(33)});
                 }),
                 "expected a frame `proof`, found `memory`"));
  CHECK(mentions(error_of([&] {
                   meeting.rank.receive({FrameType::proof, Bytes(31)});
                 }),
                 "wrong token"));
  CHECK(mentions(error_of([&] {
                   meeting.worker.receive({FrameType::welcome, {}});
                 }),
                 "expected a frame `challenge`, found `welcome`"));
  Meeting second;
  second.until_welcomed();
  CHECK(mentions(error_of([&] {
                   second.worker.receive({FrameType::channel, Bytes(1)});
                 }),
                 "expected no frame now"));
  second.worker.answer_memory(std::nullopt);
  CHECK(mentions(error_of([&] {
                   second.worker.receive({FrameType::channel, Bytes(1, std::byte{1})});
                 }),
                 "channel: expected at most 0, found 1"));
}

TEST_CASE("the fields of an opening are checked") {
  const auto refused = [](const std::function<void(Opening&)>& spoil) {
    Opening bad = opening();
    spoil(bad);
    return error_of([&] { WorkerHandshake(WorkerToken{}, bad); });
  };
  CHECK(mentions(refused([](Opening& o) { o.hello.numerics.assign(401, 'x'); }),
                 "opening: numerics: expected at most 400 bytes, found 401"));
  CHECK(mentions(refused([](Opening& o) { o.hello.host = "node\n7"; }),
                 "opening: host: expected printable ASCII, found byte 0x0a"));
  CHECK(mentions(refused([](Opening& o) { o.purpose = static_cast<Purpose>(2); }),
                 "opening: purpose: expected 0 or 1, found 2"));
}

TEST_CASE("a refusal is read whatever its version, and only its printable text is shown") {
  Meeting meeting;
  Bytes refusal;
  append_refusal(refusal, "go \x1b[2J away");
  refusal[4] = std::byte{9};
  CHECK(mentions(error_of([&] { feed(meeting.worker, refusal); }), "refused: go ?[2J away"));
}

}  // namespace longtake
