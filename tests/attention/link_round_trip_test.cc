// Tasks and answers with random payloads, over every kind of pair.
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "tests/attention/door.h"
#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

AttentionTask task_with(uint64_t id, uint16_t slot, uint32_t queries) {
  AttentionTask task = small_task(id, slot);
  task.queries = queries;
  return task;
}

// Answers `count` tasks with the payload's bytes reversed, cut to the answer's length.
void serve(PairLink& link, int count) {
  for (int served = 0; served < count;) {
    for (const PairMessage& message : wait_messages(link, 1)) {
      const auto& task = std::get<AttentionTask>(message);
      const std::byte* data = link.task_payload(task.slot);
      if (payload_checksum(data, task.payload_bytes()) != task.checksum)
        fail(ExitCode::bad_data, "payload of task {} changed on its way", task.id);
      AttentionAnswer answer = answer_to(task);
      std::byte* out = link.answer_payload(task.slot);
      for (size_t i = 0; i < answer.payload_bytes; ++i)
        out[i] = data[task.payload_bytes() - 1 - i % task.payload_bytes()];
      answer.checksum = payload_checksum(out, answer.payload_bytes);
      link.post(Heartbeat{static_cast<uint32_t>(served)});
      link.post(answer);
      ++served;
    }
  }
  link.post(Goodbye{});
  flush(link);
}

// Keeps all slots busy, checks every answer bit by bit.
void ask(PairLink& link, int count) {
  std::mt19937 random(5);
  std::vector<std::vector<std::byte>> asked(link.terms().slots);
  uint64_t next = 0, answered = 0, heartbeats = 0;
  const auto post = [&](uint16_t slot) {
    AttentionTask task = task_with(next++, slot, 1 + random() % 300);
    asked[slot] = random_bytes(task.payload_bytes(), random());
    std::memcpy(link.task_payload(slot), asked[slot].data(), asked[slot].size());
    task.checksum = payload_checksum(asked[slot].data(), asked[slot].size());
    link.post(task);
  };
  for (uint16_t slot = 0; slot < link.terms().slots; ++slot) post(slot);
  bool left = false;
  while (!left) {
    for (const PairMessage& message : wait_messages(link, 1)) {
      heartbeats += std::holds_alternative<Heartbeat>(message);
      left = left || std::holds_alternative<Goodbye>(message);
      const auto* answer = std::get_if<AttentionAnswer>(&message);
      if (!answer) continue;
      ++answered;
      const auto& bytes = asked[answer->slot];
      const std::byte* found = link.answer_payload(answer->slot);
      REQUIRE(payload_checksum(found, answer->payload_bytes) == answer->checksum);
      size_t wrong = 0;
      for (size_t i = 0; i < answer->payload_bytes; ++i)
        wrong += found[i] != bytes[bytes.size() - 1 - i % bytes.size()];
      REQUIRE(wrong == 0);
      if (next < static_cast<uint64_t>(count)) post(answer->slot);
    }
  }
  CHECK(answered == static_cast<uint64_t>(count));
  CHECK(heartbeats == static_cast<uint64_t>(count));
}

void round_trips(LinkedPair pair, int count) {
  std::exception_ptr failure;
  std::thread worker([&] {
    try {
      serve(*pair.worker, count);
    } catch (...) {
      failure = std::current_exception();
    }
  });
  ask(*pair.rank, count);
  worker.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

TEST_CASE("a task and its answer arrive field by field, over every kind of pair") {
  const WorkerToken token = random_token();
  for (const std::string kind : {"local", "shared", "sockets"}) {
    CAPTURE(kind);
    PairListener door(token, kNumerics, kTerms, kind == "shared");
    LinkedPair pair = kind == "local" ? make_local_pair(kTerms) : join(door, token);
    CHECK(pair.rank->shared_memory() == (kind != "sockets"));
    CHECK(pair.worker->shared_memory() == (kind != "sockets"));
    AttentionTask task = small_task(11, 1);
    const auto payload = random_bytes(task.payload_bytes(), 1);
    std::memcpy(pair.rank->task_payload(1), payload.data(), payload.size());
    task.checksum = payload_checksum(payload.data(), payload.size());

    pair.rank->post(task);
    flush(*pair.rank);
    const auto came = wait_messages(*pair.worker, 1);

    REQUIRE(came.size() == 1);
    const auto& found = std::get<AttentionTask>(came[0]);
    CHECK(found.id == 11);
    CHECK(found.epoch == 7);
    CHECK(found.slot == 1);
    CHECK(found.want_lse);
    CHECK_FALSE(found.canary);
    CHECK(found.dtype == DType::bf16);
    CHECK(found.first_head == 3);
    CHECK(found.heads == 2);
    CHECK(found.head_dim == 4);
    CHECK(found.first_query == 128);
    CHECK(found.queries == 5);
    CHECK(found.block == 1);
    CHECK(found.step == 2);
    CHECK(found.layer == 29);
    CHECK(found.branch == 1);
    CHECK(found.scale == 0.5f);
    CHECK(found.segment_count == 3);
    CHECK(found.segments[1].rows == 9);
    CHECK(found.segments[1].number == 77);
    CHECK(found.segments[1].resident);
    CHECK(!found.segments[2].resident);
    CHECK(found.checksum == task.checksum);
    CHECK(std::memcmp(pair.worker->task_payload(1), payload.data(), payload.size()) == 0);
    AttentionAnswer answer = answer_to(found);
    answer.checksum = 99;
    pair.worker->post(answer);
    flush(*pair.worker);
    const auto back = std::get<AttentionAnswer>(wait_messages(*pair.rank, 1).at(0));
    CHECK(back.id == 11);
    CHECK(back.epoch == 7);
    CHECK(back.slot == 1);
    CHECK(back.status == AnswerStatus::ok);
    CHECK(back.payload_bytes == 5 * 2 * 4 * 2 + 5 * 2 * 4);
    CHECK(back.queue_s == 0.25f);
    CHECK(back.kernel_s == 1.5f);
    CHECK(back.checksum == 99);
  }
}

TEST_CASE("random payloads in all slots, over every kind of pair") {
  const WorkerToken token = random_token();
  const PairTerms terms{.epoch = 7, .slots = 3, .task_bytes = 40000, .answer_bytes = 10000};
  for (const std::string kind : {"local", "shared", "sockets"}) {
    CAPTURE(kind);
    PairListener door(token, kNumerics, terms, kind == "shared");
    round_trips(kind == "local" ? make_local_pair(terms) : join(door, token), 300);
  }
}

TEST_CASE("each session has its own epoch, and the rank is reached by name and by IPv6") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms, true, DoorReach::anywhere);
  uint32_t epoch = 7;
  for (const std::string host : {"127.0.0.1", "localhost", "::1"}) {
    CAPTURE(host);
    const LinkedPair pair = join(door, token, host);
    CHECK(pair.rank->terms().epoch == epoch);
    CHECK(pair.worker->terms().epoch == epoch);
    CHECK(pair.rank->peer() == "worker 4242 on node7");
    CHECK(pair.worker->peer() == fmt::format("rank 0 at {} port {}", host, door.port()));
    ++epoch;
  }
  CHECK(door.refused() == 0);
}

TEST_CASE("another process shares the memory, and its death is told at once") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms);
  const pid_t child = ::fork();
  if (child == 0) {  // no test macros here: only the exit code is seen
    try {
      const auto link = connect_pair({0, "127.0.0.1", door.port()}, token, hello(), 20s);
      link->answer_payload(0)[0] = link->task_payload(1)[0];
      link->post(Heartbeat{link->shared_memory() ? 1u : 0u});
      while (link->sending()) (void)link->pump();
      while (link->pump().empty()) (void)::usleep(1000);
    } catch (...) {
    }
    ::_exit(9);
  }
  auto joined = wait_joined(door);
  REQUIRE(joined);

  const auto beat = std::get<Heartbeat>(wait_messages(*joined->link, 1).at(0));
  CHECK(beat.queued == 1);
  REQUIRE(::kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  const Error error = error_of([&] { (void)wait_messages(*joined->link, 1); });

  CHECK(WIFSIGNALED(status));
  CHECK(mentions(error, "worker 4242 on node7: closed the connection"));
}

}  // namespace longtake
