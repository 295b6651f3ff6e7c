// A rank's door on this host and workers that come through it, each end driven by its own thread
// where that matters.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <future>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/error.h"
#include "parallel/attention/pair_listener.h"

namespace longtake::testing {

using namespace std::chrono_literals;
using TestClock = std::chrono::steady_clock;

inline const std::string kNumerics = "longtake 0.1.0, cpu, avx2";
inline const PairTerms kTerms{.epoch = 7, .slots = 2, .task_bytes = 40000, .answer_bytes = 10000};

inline WorkerHello hello(int64_t process = 4242) {
  return {kNumerics, "node7", process, static_cast<uint64_t>(process) * 1000};
}

// 2 heads of 4, 5 queries, keys of 3 + 2 rows with the task and 9 that are resident.
inline AttentionTask small_task(uint64_t id = 11, uint16_t slot = 0) {
  AttentionTask task;
  task.id = id;
  task.epoch = 7;
  task.slot = slot;
  task.want_lse = true;
  task.dtype = DType::bf16;
  task.first_head = 3;
  task.heads = 2;
  task.head_dim = 4;
  task.first_query = 128;
  task.queries = 5;
  task.block = 1;
  task.step = 2;
  task.layer = 29;
  task.branch = 1;
  task.scale = 0.5f;
  task.segment_count = 3;
  task.segments = {{{3}, {9, 77, true}, {2}}};
  return task;
}

inline AttentionAnswer answer_to(const AttentionTask& task) {
  AttentionAnswer answer;
  answer.id = task.id;
  answer.epoch = task.epoch;
  answer.slot = task.slot;
  answer.payload_bytes = task.answer_bytes();
  answer.queue_s = 0.25f;
  answer.kernel_s = 1.5f;
  return answer;
}

inline std::vector<std::byte> random_bytes(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(bytes);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

inline void poll_all(std::vector<pollfd>& waits, std::chrono::milliseconds limit) {
  REQUIRE(::poll(waits.data(), waits.size(), static_cast<int>(limit.count())) >= 0);
}

// Until `done` says so; false after 20 s.
template <class Done>
bool drive(PairListener& door, Done&& done) {
  const auto end = TestClock::now() + 20s;
  while (!done()) {
    if (TestClock::now() > end) return false;
    std::vector<pollfd> waits;
    door.add_waits(waits);
    poll_all(waits, std::min(door.next_deadline(), 10ms));
  }
  return true;
}

inline std::optional<PairListener::Joined> wait_joined(PairListener& door) {
  std::optional<PairListener::Joined> out;
  drive(door, [&] {
    for (auto& joined : door.pump()) {
      REQUIRE_FALSE(out);
      out.emplace(std::move(joined));
    }
    return out.has_value();
  });
  return out;
}

// The messages that come before `count` are there; an Error as it is thrown.
inline std::vector<PairMessage> wait_messages(PairLink& link, size_t count) {
  std::vector<PairMessage> out;
  const auto end = TestClock::now() + 20s;
  while (out.size() < count) {
    REQUIRE(TestClock::now() < end);
    for (const PairMessage& message : link.pump()) out.push_back(message);
    if (out.size() >= count) break;
    std::vector<pollfd> waits;
    link.add_waits(waits);
    poll_all(waits, 100ms);
  }
  return out;
}

inline void flush(PairLink& link) {
  const auto end = TestClock::now() + 20s;
  while (link.sending()) {
    REQUIRE(TestClock::now() < end);
    REQUIRE(link.pump().empty());
    std::vector<pollfd> waits;
    link.add_waits(waits);
    poll_all(waits, 100ms);
  }
}

// A worker in a thread of its own, that only connects.
inline std::future<std::unique_ptr<PairLink>> connect_aside(uint16_t port, WorkerToken token,
                                                            WorkerHello worker,
                                                            std::chrono::milliseconds limit = 20s,
                                                            std::string host = "127.0.0.1") {
  return std::async(std::launch::async, [=] {
    return connect_pair({0, host, port}, token, worker, limit);
  });
}

inline LinkedPair join(PairListener& door, const WorkerToken& token,
                       const std::string& host = "127.0.0.1") {
  auto worker = connect_aside(door.port(), token, hello(), 20s, host);
  std::optional<PairListener::Joined> joined = wait_joined(door);
  REQUIRE(joined);
  return {std::move(joined->link), worker.get()};
}

}  // namespace longtake::testing
