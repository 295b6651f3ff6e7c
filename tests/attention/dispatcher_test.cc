// A rank and its workers, without sockets: whoever computes, the bits are the same.
#include <doctest/doctest.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "tests/attention/worker_fixture.h"

namespace longtake::testing {
namespace {

DispatchRules quick_rules() {
  DispatchRules rules;
  rules.least_work = 0;
  rules.weigh = false;  // nothing that is sent here is worth it
  return rules;
}

// Two branches in turn, as a visit does it.
void run_in_turn(AttentionDispatcher& dispatcher, std::deque<AttentionCase>& cases) {
  const StreamRef stream = test_stream();
  std::vector<AttentionExchange::Call> calls;
  for (size_t i = 0; i < cases.size(); ++i) {
    calls.push_back(
        dispatcher.start(cases[i].args(), {0, 0, 0, static_cast<uint8_t>(i % 2)}, stream));
    if (i > 0) dispatcher.finish(calls[i - 1], stream);
  }
  dispatcher.finish(calls.back(), stream);
}

struct Group {
  explicit Group(const DispatchRules& rules) : dispatcher(rules, nullptr) {}
  // How a worker is linked.
  ThreadWorker& add(const WorkerRules& rules = {}) {
    LinkedPair pair = make_local_pair(large_terms(next_epoch++));
    dispatcher.add_worker(std::move(pair.rank));
    return workers.emplace_back(std::move(pair.worker), rules);
  }

  uint32_t next_epoch = 1;
  AttentionDispatcher dispatcher;
  std::deque<ThreadWorker> workers;
};

int64_t dropped(const DispatchReport& report) {
  int64_t out = 0;
  for (const WorkerReport& worker : report.workers) out += worker.dropped;
  return out;
}

std::deque<AttentionCase> some_cases(DType dtype, int64_t count) {
  std::deque<AttentionCase> cases;
  for (int64_t i = 0; i < count; ++i)
    cases.emplace_back(dtype, 520 + 37 * i, 3, 32, std::vector<int64_t>{128, 520 + 37 * i, 77},
                       static_cast<uint64_t>(i));
  return cases;
}

TEST_CASE("the result has the same bits for any number of workers") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(name(dtype));
    for (const int count : {0, 1, 2, 4}) {
      CAPTURE(count);
      Group group(quick_rules());
      for (int i = 0; i < count; ++i) group.add();
      REQUIRE(group.dispatcher.workers(count, 10) == count);
      for (int round = 0; round < 4; ++round) {
        auto cases = some_cases(dtype, 6);
        run_in_turn(group.dispatcher, cases);

        for (const AttentionCase& one : cases) CHECK(one.right());
      }
      CHECK(group.dispatcher.report().calls == 24);
      // On a busy machine the rank may be done before anybody is asked: then it is done again.
      auto cases = some_cases(dtype, 6);
      for (int i = 0; i < 200 && count > 0 && group.dispatcher.report().pieces_away == 0; ++i)
        run_in_turn(group.dispatcher, cases);
      const DispatchReport report = group.dispatcher.report();
      CHECK((count > 0) == (report.pieces_away > 0));
      for (const WorkerReport& worker : report.workers) {
        CHECK(worker.state != WorkerState::dead);
      }
    }
  }
}

TEST_CASE("query rows cut at multiples of 128 give the bits of the whole") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t head_dim : {12, 64, 128}) {
      AttentionCase one(dtype, 700, 2, head_dim, {300, 411}, 5);
      for (const int64_t part : {128, 256, 512}) {
        one.clear();
        for (int64_t first = 0; first < 700; first += part) {
          AttentionArgs args = one.args();
          const int64_t end = std::min<int64_t>(700, first + part);
          args.q = args.q.rows(first, end);
          args.out = args.out.rows(first, end);
          attention(args, test_stream());
        }
        CHECK_MESSAGE(one.right(), name(dtype), " head_dim ", head_dim, " rows ", part);
      }
    }
}

// As when a visit ends in an error: the tensors are gone when the worker answers.
TEST_CASE("a call that is given up is not touched again") {
  Group group(quick_rules());
  for (int i = 0; i < 2; ++i) group.add();
  REQUIRE(group.dispatcher.workers(2, 10) == 2);
  int64_t given_up = 0;
  // Again until workers have answered somebody who was gone.
  for (; given_up < 2000 && dropped(group.dispatcher.report()) < 20; ++given_up) {
    auto one = std::make_unique<AttentionCase>(DType::f32, 1024, 3, 64, std::vector<int64_t>{1024},
                                               uint64_t{7});
    {
      const StartedAttention begun(group.dispatcher, one->args(), {}, test_stream());
      if (given_up % 2) std::this_thread::sleep_for(std::chrono::milliseconds(given_up % 5));
    }
    one.reset();
  }
  CHECK(dropped(group.dispatcher.report()) >= 20);

  auto cases = some_cases(DType::f32, 6);
  run_in_turn(group.dispatcher, cases);
  for (const AttentionCase& one : cases) CHECK(one.right());
}

TEST_CASE("keys that stay packed give the same bits, until they are forgotten") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    AttentionCase one(dtype, 700, 2, 64, {300, 411}, 5), other(dtype, 700, 2, 64, {300, 411}, 6);
    PackedKeys packed;
    const auto compute = [&](AttentionCase& of, ConstTensor q) {
      of.clear();
      for (int64_t first = 0; first < 700; first += 256) {
        AttentionArgs args = of.args();
        const int64_t end = std::min<int64_t>(700, first + 256);
        args.q = q.rows(first, end);
        args.out = args.out.rows(first, end);
        args.packed = &packed;
        attention(args, test_stream());
      }
    };

    compute(one, one.args().q);
    CHECK(one.right());
    compute(other, other.args().q);
    CHECK_FALSE(other.right());  // with the keys of the first
    packed.filled = false;
    compute(other, other.args().q);
    CHECK(other.right());
  }
}

TEST_CASE("small attention is not sent") {
  DispatchRules rules;
  Group group(rules);
  group.add();
  REQUIRE(group.dispatcher.workers(1, 10) == 1);
  auto cases = some_cases(DType::f32, 2);
  run_in_turn(group.dispatcher, cases);

  for (const AttentionCase& one : cases) CHECK(one.right());
  CHECK(group.dispatcher.report().workers.at(0).tasks == 0);
}

TEST_CASE("workers join and leave in the middle") {
  Group group(quick_rules());
  for (int round = 0; round < 12; ++round) {
    if (round % 2 == 0) group.add();
    if (round % 3 == 2) group.workers[static_cast<size_t>(round / 3)].stop();
    auto cases = some_cases(round % 2 ? DType::f32 : DType::bf16, 6);
    run_in_turn(group.dispatcher, cases);

    for (const AttentionCase& one : cases) CHECK(one.right());
  }
  int64_t left = 0;
  for (const WorkerReport& worker : group.dispatcher.report().workers)
    left += worker.reason == "it left" ? 1 : 0;
  CHECK(left >= 1);
}

TEST_CASE("an answer that was damaged is not used, and what its worker had is asked of others") {
  DispatchRules dispatch_rules = quick_rules();
  dispatch_rules.health.least_deadline_s = 30;  // being late is not what finds it
  Group group(dispatch_rules);
  std::atomic<bool> spoil{false};
  WorkerRules rules;
  rules.before_task = [&](const AttentionTask&) {
    // Meanwhile others queue up behind it.
    if (spoil) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  };
  rules.before_answer = [&](AttentionAnswer& answer, std::byte* payload) {
    if (spoil && answer.payload_bytes > 0) payload[answer.payload_bytes / 2] ^= std::byte{1};
  };
  group.add(rules);
  auto cases = some_cases(DType::f32, 6);
  for (int i = 0; i < 100 && group.dispatcher.report().pieces_away == 0; ++i)
    run_in_turn(group.dispatcher, cases);
  REQUIRE(group.dispatcher.report().pieces_away > 0);
  spoil = true;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100 && group.dispatcher.workers() > 0; ++i) {
    for (AttentionCase& one : cases) one.clear();
    run_in_turn(group.dispatcher, cases);
    for (const AttentionCase& one : cases) CHECK(one.right());
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;

  CHECK(taken.count() < 20);
  const DispatchReport report = group.dispatcher.report();
  CHECK(report.workers.at(0).state == WorkerState::dead);
  CHECK(report.workers.at(0).reason == "an answer with a wrong checksum");
  CHECK(!report.redispatches.empty());
}

TEST_CASE("a worker whose bits differ is found on trial and never used") {
  Group group(quick_rules());
  WorkerRules rules;
  rules.before_answer = [](AttentionAnswer& answer, std::byte* payload) {
    payload[0] ^= std::byte{1};
    answer.checksum = payload_checksum(payload, answer.payload_bytes);
  };
  group.add(rules);
  REQUIRE(group.dispatcher.workers(1, 10) == 1);
  for (int round = 0; round < 100 && group.dispatcher.workers() > 0; ++round) {
    auto cases = some_cases(DType::f32, 4);
    run_in_turn(group.dispatcher, cases);

    for (const AttentionCase& one : cases) CHECK(one.right());
  }
  const DispatchReport report = group.dispatcher.report();
  CHECK(report.pieces_away == 0);
  CHECK(report.workers.at(0).state == WorkerState::dead);
  CHECK(report.workers.at(0).reason == "an answer that differs from the rank's own");
}

TEST_CASE("one that begins to differ later is found by a later trial") {
  DispatchRules rules = quick_rules();
  rules.trial_every = 8;
  Group group(rules);
  std::atomic<bool> wrong{false};
  WorkerRules worker_rules;
  worker_rules.before_answer = [&](AttentionAnswer& answer, std::byte* payload) {
    if (!wrong) return;
    payload[0] ^= std::byte{1};
    answer.checksum = payload_checksum(payload, answer.payload_bytes);
  };
  group.add(worker_rules);
  auto cases = some_cases(DType::f32, 4);
  for (int i = 0; i < 200 && group.dispatcher.report().pieces_away == 0; ++i)
    run_in_turn(group.dispatcher, cases);
  wrong = true;
  for (int i = 0; i < 400 && group.dispatcher.workers() > 0; ++i)
    run_in_turn(group.dispatcher, cases);

  CHECK(group.dispatcher.report().workers.at(0).state == WorkerState::dead);
}

TEST_CASE("a worker that is late is not waited for, and trusted again when it has caught up") {
  DispatchRules rules = quick_rules();
  rules.health.least_deadline_s = 0.05;
  Group group(rules);
  std::atomic<bool> slow{false};
  WorkerRules worker_rules;
  worker_rules.before_task = [&](const AttentionTask&) {
    if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  };
  group.add(worker_rules);
  auto cases = some_cases(DType::f32, 6);
  for (int i = 0; i < 200 && group.dispatcher.report().pieces_away == 0; ++i)
    run_in_turn(group.dispatcher, cases);
  REQUIRE(group.dispatcher.report().workers.at(0).state == WorkerState::ok);

  slow = true;
  for (int i = 0; i < 50 && group.dispatcher.report().workers.at(0).late == 0; ++i) {
    for (AttentionCase& one : cases) one.clear();
    run_in_turn(group.dispatcher, cases);
    for (const AttentionCase& one : cases) CHECK(one.right());
  }
  CHECK(group.dispatcher.report().workers.at(0).late >= 1);
  slow = false;
  for (int round = 0; round < 300; ++round) {
    run_in_turn(group.dispatcher, cases);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (group.dispatcher.report().workers.at(0).state == WorkerState::ok) break;
  }
  CHECK(group.dispatcher.report().workers.at(0).state == WorkerState::ok);
}

TEST_CASE("a worker that falls silent is given up") {
  DispatchRules rules = quick_rules();
  rules.health.heartbeat_s = 0.05;
  Group group(rules);
  LinkedPair pair = make_local_pair(large_terms());
  group.dispatcher.add_worker(std::move(pair.rank));
  REQUIRE(group.dispatcher.workers(1, 10) == 1);
  auto cases = some_cases(DType::f32, 4);
  run_in_turn(group.dispatcher, cases);
  for (const AttentionCase& one : cases) CHECK(one.right());
  for (int i = 0; i < 100 && group.dispatcher.workers() > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));

  CHECK(group.dispatcher.workers() == 0);
  CHECK(group.dispatcher.report().workers.at(0).reason == "5 heartbeats missed");
}

// A worker's end of a link in the test's own hands.
struct OwnWorker {
  explicit OwnWorker(std::unique_ptr<PairLink> to) : link(std::move(to)) {}
  // Has calls made until a task comes: the rank may be done with some before anybody is asked.
  AttentionTask next(const std::function<void()>& make_calls) {
    for (int i = 0; i < 500 && waiting.empty(); ++i) {
      make_calls();
      for (const PairMessage& message : link->pump())
        if (const auto* task = std::get_if<AttentionTask>(&message)) waiting.push_back(*task);
    }
    REQUIRE(!waiting.empty());
    const AttentionTask task = waiting.front();
    waiting.pop_front();
    return task;
  }
  AttentionAnswer zeros_for(const AttentionTask& task) {
    AttentionAnswer answer{.id = task.id, .epoch = task.epoch, .slot = task.slot};
    answer.payload_bytes = task.answer_bytes();
    std::fill_n(link->answer_payload(task.slot), answer.payload_bytes, std::byte{});
    answer.checksum = payload_checksum(link->answer_payload(task.slot), answer.payload_bytes);
    return answer;
  }

  std::unique_ptr<PairLink> link;
  std::deque<AttentionTask> waiting;
};

TEST_CASE("answers of another session, to nothing, or for the second time are dropped") {
  Group group(quick_rules());
  LinkedPair pair = make_local_pair(large_terms(7));
  OwnWorker worker(std::move(pair.worker));
  group.dispatcher.add_worker(std::move(pair.rank));
  REQUIRE(group.dispatcher.workers(1, 10) == 1);
  auto cases = some_cases(DType::f32, 2);
  const AttentionTask task = worker.next([&] { run_in_turn(group.dispatcher, cases); });
  AttentionAnswer old = worker.zeros_for(task), unknown = old, last_slot = old;
  old.epoch = 6;
  unknown.id += 1000;
  last_slot.slot = 2;
  for (const AttentionAnswer& answer : {old, unknown, last_slot}) worker.link->post(answer);
  (void)worker.link->pump();
  for (int i = 0; i < 200 && group.dispatcher.report().workers.at(0).dropped < 3; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));

  CHECK(group.dispatcher.report().workers.at(0).dropped == 3);
  CHECK(group.dispatcher.workers() == 1);
  for (const AttentionCase& one : cases) CHECK(one.right());
}

TEST_CASE("a worker has no keys but those that came with a task") {
  LinkedPair pair = make_local_pair(large_terms());
  ThreadWorker worker(std::move(pair.worker), {});
  AttentionTask task{.id = 1, .epoch = 1};
  task.heads = 1, task.head_dim = 8, task.queries = 4, task.scale = 1, task.segment_count = 1;
  task.segments[0] = {
      .rows = 1'000'000'000, .number = 3, .resident = true};  // none of them in the payload
  std::fill_n(pair.rank->task_payload(0), task.payload_bytes(), std::byte{});
  task.checksum = payload_checksum(pair.rank->task_payload(0), task.payload_bytes());
  pair.rank->post(task);
  std::optional<AttentionAnswer> answer;
  for (int i = 0; i < 1000 && !answer; ++i) {
    for (const PairMessage& message : pair.rank->pump())
      if (const auto* found = std::get_if<AttentionAnswer>(&message)) answer = *found;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  REQUIRE(answer);
  CHECK(answer->status == AnswerStatus::need_keys);
}

TEST_CASE("a worker that refuses work is asked again") {
  Group group(quick_rules());
  LinkedPair pair = make_local_pair(large_terms());
  OwnWorker worker(std::move(pair.worker));
  group.dispatcher.add_worker(std::move(pair.rank));
  REQUIRE(group.dispatcher.workers(1, 10) == 1);
  auto cases = some_cases(DType::f32, 2);
  for (int round = 0; round < 2; ++round) {
    const AttentionTask task = worker.next([&] { run_in_turn(group.dispatcher, cases); });
    worker.link->post(AttentionAnswer{
        .id = task.id, .epoch = task.epoch, .slot = task.slot, .status = AnswerStatus::busy});
    (void)worker.link->pump();
  }
  CHECK(group.dispatcher.workers() == 1);
  for (const AttentionCase& one : cases) CHECK(one.right());
}

}  // namespace
}  // namespace longtake::testing
