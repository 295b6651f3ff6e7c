// A pair that goes from the host's slots to GPUs' slots, over NCCL as it is faked here.
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "kernels/base/error.h"
#include "parallel/attention/nccl_pair.h"
#include "tests/channel_gpu/fakes.h"

namespace longtake::testing {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr PairTerms kTerms{.epoch = 3, .slots = 3, .task_bytes = 60'000, .answer_bytes = 9'000};

void until(const std::function<bool()>& done) {
  const auto end = Clock::now() + 20s;
  while (!done()) {
    REQUIRE(Clock::now() < end);
    std::this_thread::sleep_for(100us);
  }
}

struct Ends {
  std::unique_ptr<PairLink> rank, worker;
};

// Both ends, one step each in turn.
Ends upgraded(std::chrono::milliseconds limit = 10s, std::string* why_not = nullptr) {
  LinkedPair pair = make_local_pair(kTerms);
  const auto rank = begin_nccl_upgrade(std::move(pair.rank), PairEnd::rank, 0, limit);
  const auto worker = begin_nccl_upgrade(std::move(pair.worker), PairEnd::worker, 1, limit);
  Ends out;
  until([&] {
    if (!out.rank) out.rank = rank->step();
    if (!out.worker) out.worker = worker->step();
    return out.rank && out.worker;
  });
  if (why_not) *why_not = rank->why_not() + "; " + worker->why_not();
  return out;
}

AttentionTask task_of(uint64_t id, uint16_t slot, uint32_t queries) {
  AttentionTask task{.id = id, .epoch = 3, .slot = slot};
  task.heads = 1, task.head_dim = 8, task.queries = queries, task.segment_count = 1;
  task.segments[0] = {.rows = 2 * queries};
  return task;
}

std::byte value_at(uint64_t id, size_t i) {
  return static_cast<std::byte>(37 * id + i * i + i / 256);
}
void fill(std::byte* data, size_t bytes, uint64_t id) {
  for (size_t i = 0; i < bytes; ++i) data[i] = value_at(id, i);
}
bool holds(const std::byte* data, size_t bytes, uint64_t id) {
  for (size_t i = 0; i < bytes; ++i)
    if (data[i] != value_at(id, i)) return false;
  return true;
}

// What the worker does with a task that has come.
void answer(PairLink& worker, const AttentionTask& task) {
  AttentionAnswer answer{.id = task.id, .epoch = 3, .slot = task.slot};
  answer.payload_bytes = task.answer_bytes();
  fill(worker.answer_payload(task.slot), answer.payload_bytes, task.id + 1000);
  worker.post(answer);
}

// Tasks in all slots all the time, answered in the order in which they came, heartbeats between
// them. How many were answered with the right bytes.
int exchange(Ends& ends, int tasks) {
  std::mt19937 random(5);
  std::vector<uint64_t> in_slot(kTerms.slots, 0);
  uint64_t next = 1;
  int right = 0, back = 0;
  until([&] {
    for (uint16_t slot = 0; slot < kTerms.slots; ++slot) {
      if (in_slot[slot] != 0 || next > static_cast<uint64_t>(tasks)) continue;
      const AttentionTask task = task_of(next, slot, 1 + random() % 250);
      fill(ends.rank->task_payload(slot), task.payload_bytes(), next);
      ends.rank->post(task);
      if (next % 5 == 0) ends.rank->post(Heartbeat{});
      in_slot[slot] = next++;
    }
    for (const PairMessage& message : ends.worker->pump())
      if (const auto* task = std::get_if<AttentionTask>(&message)) {
        right += holds(ends.worker->task_payload(task->slot), task->payload_bytes(), task->id);
        answer(*ends.worker, *task);
      }
    for (const PairMessage& message : ends.rank->pump())
      if (const auto* found = std::get_if<AttentionAnswer>(&message)) {
        right += in_slot[found->slot] == found->id && holds(ends.rank->answer_payload(found->slot),
                                                            found->payload_bytes, found->id + 1000);
        in_slot[found->slot] = 0;
        ++back;
      }
    return back == tasks;
  });
  return right;
}

std::string error_of(const std::function<void()>& action) {
  try {
    until([&] {
      action();
      return false;
    });
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("nccl pair: tasks and answers, several at once") {
  {
    Ends ends = upgraded();
    CHECK(ends.rank->device() == Device{DeviceType::cuda, 0});
    CHECK(ends.worker->device() == Device{DeviceType::cuda, 1});
    CHECK(ends.rank->terms().slots == 3);
    CHECK(exchange(ends, 200) == 400);
    CHECK(!ends.rank->sending());

    ends.worker->post(Heartbeat{7, true, 99});
    ends.worker->post(Goodbye{});
    std::vector<PairMessage> last;
    until([&] {
      for (const PairMessage& message : ends.rank->pump()) last.push_back(message);
      return last.size() == 2;
    });
    CHECK(std::get<Heartbeat>(last[0]).keep_bytes == 99);
    CHECK(std::holds_alternative<Goodbye>(last[1]));
  }
  CHECK(live_allocations() == 0);
}

TEST_CASE("nccl pair: numbers tell GPUs apart") {
  CHECK(nccl_gpu_number(0) != 0);
  CHECK(nccl_gpu_number(0) == nccl_gpu_number(0));
  CHECK(nccl_gpu_number(0) != nccl_gpu_number(1));
}

TEST_CASE("nccl pair: when one end has no communicator, the pair stays as it was") {
  std::string why_not;
  failing_communicators() = 1;
  {
    Ends ends = upgraded(10s, &why_not);
    CHECK(failing_communicators() == 0);
    CHECK(ends.rank->device() == Device{});
    CHECK(ends.worker->device() == Device{});
    CHECK(why_not.find("an error") != std::string::npos);
    CHECK(exchange(ends, 50) == 100);
  }
  CHECK(live_allocations() == 0);
}

// And what the rank says at once after it is not lost.
TEST_CASE("nccl pair: an offer of nothing") {
  LinkedPair pair = make_local_pair(kTerms);
  const auto worker = begin_nccl_upgrade(std::move(pair.worker), PairEnd::worker, 1, 10s);
  CHECK(worker->step() == nullptr);
  const AttentionTask task = task_of(1, 2, 40);
  fill(pair.rank->task_payload(2), task.payload_bytes(), 1);
  pair.rank->post(NcclOffer{});
  pair.rank->post(Heartbeat{5});
  pair.rank->post(task);
  Ends ends{std::move(pair.rank), worker->step()};

  REQUIRE(ends.worker);
  CHECK(ends.worker->device() == Device{});
  const std::vector<PairMessage> came = ends.worker->pump();
  REQUIRE(came.size() == 2);
  CHECK(std::get<Heartbeat>(came[0]).queued == 5);
  CHECK(std::get<AttentionTask>(came[1]).id == 1);
  CHECK(holds(ends.worker->task_payload(2), task.payload_bytes(), 1));
}

TEST_CASE("nccl pair: an end that is late or says something else") {
  {
    LinkedPair pair = make_local_pair(kTerms);
    const auto rank = begin_nccl_upgrade(std::move(pair.rank), PairEnd::rank, 0, 100ms);
    std::unique_ptr<PairLink> none;
    const auto start = Clock::now();
    CHECK(error_of([&] { none = rank->step(); }).find("no word of NCCL") != std::string::npos);
    CHECK(none == nullptr);
    CHECK(Clock::now() - start < 10s);
  }
  {
    LinkedPair pair = make_local_pair(kTerms);
    const auto rank = begin_nccl_upgrade(std::move(pair.rank), PairEnd::rank, 0, 10s);
    pair.worker->post(Heartbeat{});
    CHECK(rank->step() == nullptr);
    pair.worker->post(Goodbye{});
    CHECK(error_of([&] { (void)rank->step(); }).find("expected an offer or a verdict") !=
          std::string::npos);
  }
  {
    LinkedPair pair = make_local_pair(kTerms);
    const auto worker = begin_nccl_upgrade(std::move(pair.worker), PairEnd::worker, 0, 100ms);
    pair.rank.reset();
    CHECK(error_of([&] { (void)worker->step(); }).find("closed the connection") !=
          std::string::npos);
  }
  CHECK(live_allocations() == 0);
}

TEST_CASE("nccl pair: an end that goes while payloads are under way") {
  {
    Ends ends = upgraded();
    const AttentionTask task = task_of(1, 0, 100);
    fill(ends.rank->task_payload(0), task.payload_bytes(), 1);
    ends.rank->post(task);
    CHECK(ends.rank->sending());
    const auto start = Clock::now();
    ends.worker.reset();
    CHECK(error_of([&] { (void)ends.rank->pump(); }).find("closed the connection") !=
          std::string::npos);
    ends.rank.reset();
    CHECK(Clock::now() - start < 5s);
  }
  CHECK(live_allocations() == 0);
}

TEST_CASE("nccl pair: an error of NCCL ends the pair") {
  {
    Ends ends = upgraded();
    const AttentionTask task = task_of(1, 0, 100);
    fill(ends.rank->task_payload(0), task.payload_bytes(), 1);
    broken_network() = true;
    const std::string error = error_of([&] {
      ends.rank->post(task);
      (void)ends.rank->pump();
    });
    broken_network() = false;
    CHECK(error.find("the worker in this process: the call before: an error") != std::string::npos);
  }
  CHECK(live_allocations() == 0);
}

}  // namespace longtake::testing
