// The handshake of channels between GPUs, over loopback.
#include "parallel/comm/edge_notes.h"

#include <doctest/doctest.h>

#include <thread>

#include "kernels/base/error.h"
#include "parallel/comm/loopback_channel.h"
#include "tests/support/expect_error.h"

namespace longtake::testing {

namespace {

constexpr int kTag = 2, kDepth = 2;

struct Pair {
  explicit Pair(std::chrono::milliseconds deadline)
      : job(2, {deadline}), from(job.transport(0)), to(job.transport(1)) {}
  LoopbackJob job;
  std::unique_ptr<Transport> from, to;
};

}  // namespace

TEST_CASE("edge notes: messages come in order with their sizes, replies free the buffers") {
  Pair ranks(std::chrono::seconds(10));
  constexpr int kMessages = 100;
  std::vector<size_t> sizes;
  std::thread receiver([&] {
    ReceiverNotes notes(*ranks.to, 0, kTag, kDepth);
    for (int m = 0; m < kMessages; ++m) {
      const EdgeNote note = notes.next("a message");
      if (note.message == m) sizes.push_back(note.bytes);
      notes.received();
      notes.released();
    }
    while (!notes.closed()) std::this_thread::yield();
  });
  SenderNotes notes(*ranks.from, 1, kTag, kDepth);
  for (int m = 0; m < kMessages; ++m) {
    if (m >= kDepth) notes.await_released(m - kDepth + 1, "a free buffer");
    notes.issue(static_cast<size_t>(m) * 3);
  }
  notes.await_received(kMessages, "the last messages");
  notes.close();
  receiver.join();

  REQUIRE(sizes.size() == kMessages);
  for (size_t m = 0; m < kMessages; ++m) CHECK(sizes[m] == m * 3);
}

TEST_CASE("edge notes: a message that has arrived need not be given back before the end") {
  Pair ranks(std::chrono::milliseconds(200));
  ReceiverNotes in(*ranks.to, 0, kTag, kDepth);
  SenderNotes out(*ranks.from, 1, kTag, kDepth);
  CHECK_FALSE(in.arrived());
  out.issue(5);
  CHECK(in.arrived());
  CHECK(in.next("a message").bytes == 5);
  in.received();

  out.await_received(1, "the message to arrive");
  CHECK(mentions(error_of([&] { out.await_released(1, "a free buffer"); }),
                 "a free buffer: nothing from rank 1 in 0.2 s"));
}

TEST_CASE("edge notes: after the end a message is waited for until the deadline") {
  Pair ranks(std::chrono::milliseconds(200));
  ReceiverNotes in(*ranks.to, 0, kTag, kDepth);
  SenderNotes out(*ranks.from, 1, kTag, kDepth);
  out.issue(5);
  CHECK_FALSE(in.closed());
  out.close();
  CHECK(in.closed());

  CHECK(mentions(error_of([&] { (void)in.next("a message"); }),
                 "a message: nothing from rank 0 in 0.2 s"));
}

TEST_CASE("edge notes: waiting for a GPU has a deadline") {
  Pair ranks(std::chrono::milliseconds(100));
  EdgeContext context{*ranks.from, {std::chrono::milliseconds(100)}, 0, ""};
  int asked = 0;
  context.wait(1, "three turns", [&] { return ++asked == 3; });
  CHECK(asked == 3);
  CHECK(mentions(error_of([&] { context.wait(1, "a copy", [] { return false; }); }),
                 "rank 0/2: a copy: nothing from rank 1 in 0.1 s"));
}

}  // namespace longtake::testing
