// A pair whose peer is slow, leaves in the middle of something, or sends what it must not.
#include "tests/attention/raw_worker.h"
#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

Bytes encoded(const PairMessage& message, const PairTerms& terms = kTerms) {
  Bytes out;
  append_message(out, message, terms);
  return out;
}

// What the rank's end throws once all that came before is taken.
Error failure_of(PairLink& rank) {
  return error_of([&] {
    const auto end = TestClock::now() + 20s;
    while (TestClock::now() < end) {
      (void)rank.pump();
      std::vector<pollfd> waits;
      rank.add_waits(waits);
      poll_all(waits, 100ms);
    }
  });
}

struct Rig {
  WorkerToken token = random_token();
  PairListener door{token, kNumerics, kTerms, false};
  RawPair pair = join_raw(door, token);
};

}  // namespace

TEST_CASE("a large payload to a slow reader: no pump waits, nothing is lost") {
  const PairTerms terms{.epoch = 1, .slots = 2, .task_bytes = 90 << 20, .answer_bytes = 1 << 20};
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, terms, false);
  const LinkedPair pair = join(door, token);
  AttentionTask task = small_task();
  task.want_lse = false;
  task.heads = 16;
  task.head_dim = 1024;
  task.segments = {{{1000, 0}, {200, 0}, {100, 0}}};
  const auto payload = random_bytes(task.payload_bytes(), 3);
  REQUIRE(payload.size() > (80u << 20));
  std::memcpy(pair.rank->task_payload(0), payload.data(), payload.size());

  // One thread drives both ends: a pump that waited for the reader would never return.
  pair.rank->post(task);
  for (int i = 0; i < 100; ++i) REQUIRE(pair.rank->pump().empty());
  CHECK(pair.rank->sending());
  std::vector<pollfd> waits;
  pair.rank->add_waits(waits);
  CHECK(waits.size() == 2);
  CHECK((waits.back().events & POLLOUT) != 0);
  CHECK(::poll(&waits.back(), 1, 0) == 0);  // the socket is full, so nobody spins

  // The other way is not held up by it, and neither is a heartbeat.
  pair.worker->post(Heartbeat{5});
  flush(*pair.worker);
  CHECK(std::get<Heartbeat>(wait_messages(*pair.rank, 1).at(0)).queued == 5);
  pair.rank->post(Heartbeat{6});
  pair.rank->post(Goodbye{});
  std::vector<PairMessage> came;
  bool heartbeat_first = false;
  while (came.size() < 3) {
    REQUIRE(pair.rank->pump().empty());
    for (const PairMessage& message : pair.worker->pump()) came.push_back(message);
    heartbeat_first |= came.size() == 1 && pair.rank->sending();
  }

  CHECK(heartbeat_first);
  CHECK(std::holds_alternative<Heartbeat>(came[0]));
  CHECK(std::get<AttentionTask>(came[1]).id == 11);
  CHECK(std::holds_alternative<Goodbye>(came[2]));
  CHECK(std::memcmp(pair.worker->task_payload(0), payload.data(), payload.size()) == 0);
  CHECK_FALSE(pair.rank->sending());
}

TEST_CASE("a peer that never reads is an error, not an endless queue") {
  Rig rig;
  const Error error = error_of([&] {
    for (int i = 0; i < 10'000'000; ++i) {
      rig.pair.rank->post(Heartbeat{});
      if (i % 1000 == 0) (void)rig.pair.rank->pump();
    }
  });

  CHECK(mentions(error, "worker 4242 on node7 does not read"));
}

TEST_CASE("closed between two messages, in a frame, in a payload") {
  {
    Rig rig;
    rig.pair.worker.control = {};
    const Error error = failure_of(*rig.pair.rank);
    CHECK(error.code() == ExitCode::io);
    CHECK(std::string(error.what()) == "worker 4242 on node7: closed the connection");
    CHECK(mentions(error_of([&] { rig.pair.rank->post(Goodbye{}); }), "closed the connection"));
    CHECK(mentions(error_of([&] { (void)rig.pair.rank->pump(); }), "closed the connection"));
  }
  {
    Rig rig;
    const Bytes frame = encoded(answer_to(small_task()));
    send_all(rig.pair.worker.control, BytesView(frame).first(17));
    rig.pair.worker.control = {};
    CHECK(mentions(failure_of(*rig.pair.rank), "in the middle of a frame: 17 bytes of it came"));
  }
  {
    Rig rig;
    const AttentionAnswer answer = answer_to(small_task());
    REQUIRE(answer.payload_bytes == 120);
    send_all(rig.pair.worker.control, encoded(answer));
    send_all(rig.pair.worker.payload, Bytes(50));
    rig.pair.worker.payload = {};
    CHECK(
        mentions(failure_of(*rig.pair.rank), "in the middle of a payload: expected 70 more bytes"));
  }
  {
    Rig rig;  // an idle payload connection that is lost is found at the next pump
    rig.pair.worker.payload = {};
    send_all(rig.pair.worker.control, encoded(Heartbeat{4}));
    CHECK(std::get<Heartbeat>(wait_messages(*rig.pair.rank, 1).at(0)).queued == 4);
    CHECK(mentions(failure_of(*rig.pair.rank), "closed the connection"));
  }
}

TEST_CASE("what came before the end is delivered before the end is told") {
  Rig rig;
  AttentionAnswer answer = answer_to(small_task());
  Bytes stream = encoded(answer);
  append_message(stream, Goodbye{}, kTerms);
  const auto payload = random_bytes(answer.payload_bytes, 9);
  send_all(rig.pair.worker.payload, payload);
  send_all(rig.pair.worker.control, stream);
  rig.pair.worker.payload = {};
  rig.pair.worker.control = {};

  const auto came = wait_messages(*rig.pair.rank, 2);
  CHECK(std::get<AttentionAnswer>(came[0]).id == 11);
  CHECK(std::memcmp(rig.pair.rank->answer_payload(0), payload.data(), payload.size()) == 0);
  CHECK(std::holds_alternative<Goodbye>(came[1]));
  CHECK(mentions(failure_of(*rig.pair.rank), "closed the connection"));
}

TEST_CASE("writing to a peer that is gone is an error and no SIGPIPE") {
  const WorkerToken token = random_token();
  for (const bool shared : {true, false}) {
    PairListener door(token, kNumerics, kTerms, shared);
    LinkedPair pair = join(door, token);
    pair.worker.reset();
    const Error error = error_of([&] {
      for (int i = 0; i < 1000; ++i) {
        pair.rank->post(small_task());
        (void)pair.rank->pump();
        std::this_thread::sleep_for(1ms);
      }
    });
    CHECK(error.code() == ExitCode::io);
    CHECK(mentions(error, "worker 4242 on node7"));
  }
}

TEST_CASE("malformed frames end the pair, after the good ones before them") {
  const auto spoilt = [](size_t at, uint8_t value) {
    Rig rig;
    Bytes stream = encoded(Heartbeat{1});
    Bytes bad = encoded(answer_to(small_task()));
    bad[at] = std::byte{value};
    append(stream, bad);
    send_all(rig.pair.worker.control, stream);
    CHECK(std::get<Heartbeat>(wait_messages(*rig.pair.rank, 1).at(0)).queued == 1);
    const Error error = failure_of(*rig.pair.rank);
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(mentions(error, "worker 4242 on node7: "));
    return error;
  };
  CHECK(mentions(spoilt(0, 0), "expected magic"));
  CHECK(mentions(spoilt(4, 1), "protocol version: expected 2, found 1"));
  CHECK(mentions(spoilt(6, 99), "frame type"));
  CHECK(mentions(spoilt(11, 0xff), "answer: expected at most 64 bytes, found"));
  CHECK(mentions(spoilt(kFrameHeaderBytes + 12, 2), "slot: expected 0 to 1, found 2"));
  CHECK(mentions(spoilt(kFrameHeaderBytes + 14, 9), "status: expected 0 to 4, found 9"));
  CHECK(mentions(spoilt(kFrameHeaderBytes + 18, 1), "payload: expected at most 10000 bytes"));
  Rig rig;
  send_all(rig.pair.worker.control, encoded(small_task()));
  CHECK(mentions(failure_of(*rig.pair.rank), "found a frame `task`"));
}

TEST_CASE("an end posts only what is its own, and only what fits") {
  LinkedPair pair = make_local_pair(kTerms);
  AttentionTask large = small_task();
  large.segments[0].rows = 5000;

  CHECK(mentions(error_of([&] { pair.worker->post(small_task()); }), "a worker posts no tasks"));
  CHECK(mentions(error_of([&] { pair.rank->post(answer_to(small_task())); }), "no answers"));
  CHECK(mentions(error_of([&] { pair.rank->post(large); }), "expected at most 40000 bytes"));
  CHECK(pair.worker->pump().empty());
  CHECK_THROWS_AS((void)pair.rank->task_payload(2), Error);
}

TEST_CASE("a local pair wakes its other end and tells when it is gone") {
  LinkedPair pair = make_local_pair(kTerms);
  std::vector<pollfd> waits;
  pair.worker->add_waits(waits);
  REQUIRE(waits.size() == 1);
  CHECK(::poll(waits.data(), 1, 0) == 0);
  pair.rank->post(Heartbeat{8});
  CHECK(::poll(waits.data(), 1, 0) == 1);
  CHECK(std::get<Heartbeat>(pair.worker->pump().at(0)).queued == 8);
  CHECK(::poll(waits.data(), 1, 0) == 0);

  pair.rank->post(Goodbye{});
  pair.rank.reset();
  CHECK(::poll(waits.data(), 1, 0) == 1);
  CHECK(std::holds_alternative<Goodbye>(pair.worker->pump().at(0)));
  CHECK(mentions(error_of([&] { (void)pair.worker->pump(); }), "closed the connection"));
  CHECK(::poll(waits.data(), 1, 0) == 1);
}

}  // namespace longtake
