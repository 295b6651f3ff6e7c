// Keys that a worker keeps are sent once, and whoever forgets what: the bits are the same.
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <thread>

#include "parallel/attention/lru.h"
#include "parallel/attention/task_compute.h"
#include "tests/attention/worker_fixture.h"

namespace longtake::testing {
namespace {

using namespace std::chrono_literals;

DispatchRules quick_rules() {
  DispatchRules rules;
  rules.least_work = 0;
  rules.weigh = false;
  rules.trial_every = 0;
  return rules;
}

// Calls of one layer: the keys of the first segment are the same in all of them, the others new.
class SameContext {
 public:
  explicit SameContext(DType dtype) {
    const AttentionCase& first = make(dtype, 0);
    for (uint64_t i = 1; i < 4; ++i) {
      AttentionCase& next = make(dtype, i);
      next.segments[0] = first.segments[0];
      attention(next.args(), test_stream());
      next.expected = to_host(next.out, test_stream());
      next.clear();
    }
  }
  void run(AttentionDispatcher& dispatcher) {
    for (AttentionCase& one : cases_) {
      one.clear();
      StartedAttention begun(dispatcher, one.args(), {}, test_stream());
      std::this_thread::sleep_for(2ms);
      begun.finish(test_stream());
      CHECK(one.right());
    }
  }
  uint64_t context_bytes() const {  // of one head
    return 2 * cases_[0].k[0].bytes() / static_cast<uint64_t>(cases_[0].q.dim(1));
  }

 private:
  AttentionCase& make(DType dtype, uint64_t seed) {
    return cases_.emplace_back(dtype, 300, 3, 32, std::vector<int64_t>{256, 300}, seed);
  }
  std::deque<AttentionCase> cases_;
};

struct Linked {
  Linked(const DispatchRules& rules, const WorkerRules& worker_rules) : dispatcher(rules, nullptr) {
    LinkedPair pair = make_local_pair(large_terms());
    dispatcher.add_worker(std::move(pair.rank));
    worker.emplace(std::move(pair.worker), worker_rules);
    REQUIRE(dispatcher.workers(1, 10) == 1);
  }
  WorkerReport report() const { return dispatcher.report().workers.at(0); }

  AttentionDispatcher dispatcher;
  std::optional<ThreadWorker> worker;
};

}  // namespace

TEST_CASE("the values used last are kept") {
  Lru<int, int> lru(100);
  lru.put(1, 10, 40);
  lru.put(2, 20, 40);
  CHECK(*lru.find(1) == 10);
  lru.put(3, 30, 40);  // 2 was used before 1

  CHECK(lru.find(2) == nullptr);
  CHECK(*lru.find(1) == 10);
  CHECK(*lru.find(3) == 30);
  CHECK(lru.bytes() == 80);

  lru.put(3, 31, 60);  // instead of the other one
  CHECK(*lru.find(3) == 31);
  CHECK(lru.bytes() == 100);
  lru.put(4, 40, 101);  // larger than all
  CHECK(lru.find(4) == nullptr);
  CHECK(lru.size() == 2);
  lru.limit(70);
  CHECK(lru.find(1) == nullptr);
  CHECK(*lru.find(3) == 31);
  lru.clear();
  CHECK(lru.bytes() == 0);
  CHECK(lru.find(3) == nullptr);
}

TEST_CASE("context that comes again is sent to a worker twice at most") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Linked linked(quick_rules(), {});
    SameContext calls(dtype);
    for (int i = 0; i < 500 && linked.report().resident_bytes < 12 * calls.context_bytes(); ++i)
      calls.run(linked.dispatcher);

    const WorkerReport report = linked.report();
    CHECK(report.resident_bytes >= 12 * calls.context_bytes());
    CHECK(report.resident_bytes % calls.context_bytes() == 0);  // of the first segment alone
    CHECK(report.state == WorkerState::ok);
  }
}

TEST_CASE("a worker with room for one head's keys, or for none, gives the same bits") {
  SameContext calls(DType::f32);
  for (const size_t room : {calls.context_bytes() + 1, size_t{0}}) {
    WorkerRules rules;
    rules.keep_bytes = room;
    Linked linked(quick_rules(), rules);
    for (int i = 0; i < 30; ++i) calls.run(linked.dispatcher);
    for (int i = 0; i < 500 && linked.report().tasks < 100; ++i) calls.run(linked.dispatcher);

    CHECK(linked.report().tasks >= 100);
    CHECK(linked.report().state == WorkerState::ok);
    if (room == 0) CHECK(linked.report().resident_bytes == 0);
  }
}

// It has forgotten them each time: the rank sends them again, whole.
TEST_CASE("a worker that has forgotten keys is sent them again, without being lost") {
  AttentionTask under_way;
  std::set<uint64_t> forgotten;
  int64_t sent_again = 0;
  WorkerRules rules;
  rules.before_task = [&](const AttentionTask& task) {
    under_way = task;
    for (const TaskSegment& segment : task.segments)
      if (!segment.resident) sent_again += static_cast<int64_t>(forgotten.erase(segment.number));
  };
  rules.before_answer = [&](AttentionAnswer& answer, std::byte*) {
    if (!under_way.names_resident_keys()) return;
    answer.status = AnswerStatus::need_keys;
    answer.payload_bytes = 0;
    for (const TaskSegment& segment : under_way.segments)
      if (segment.resident) forgotten.insert(segment.number);
  };
  {
    Linked linked(quick_rules(), rules);
    SameContext calls(DType::f32);
    for (int i = 0; i < 2000 && linked.report().redispatched < 20; ++i)
      calls.run(linked.dispatcher);

    CHECK(linked.report().redispatched >= 20);
    CHECK(linked.report().state == WorkerState::ok);
    CHECK(linked.report().reason == "");
  }
  CHECK(sent_again >= 3);  // three heads, one segment of each
}

TEST_CASE("a worker that asks for keys which came with the task is given up") {
  WorkerRules rules;
  rules.before_answer = [](AttentionAnswer& answer, std::byte*) {
    answer.status = AnswerStatus::need_keys;
    answer.payload_bytes = 0;
  };
  Linked linked(quick_rules(), rules);
  SameContext calls(DType::f32);
  for (int i = 0; i < 500 && linked.report().state != WorkerState::dead; ++i)
    calls.run(linked.dispatcher);

  CHECK(linked.report().state == WorkerState::dead);
  CHECK(linked.report().reason == "it could not compute a task");
}

// As the rows of a head that was cut: the first part brings the keys, the second names them.
TEST_CASE("rows that are computed from kept keys have the bits of the whole") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    AttentionCase whole(dtype, 384, 1, 64, {100, 411}, 9);
    KeptKeys kept(size_t{1} << 20);
    std::vector<std::byte> found;
    for (const auto& [first, rows] : {std::pair<int64_t, int64_t>{0, 128}, {128, 256}}) {
      AttentionTask task{.id = 1, .epoch = 1};
      task.dtype = dtype;
      task.heads = 1, task.head_dim = 64, task.queries = static_cast<uint32_t>(rows);
      task.scale = whole.scale, task.segment_count = 2;
      std::vector<std::byte> in(whole.q.bytes() + 4 * whole.k[1].bytes());
      std::byte* to = in.data();
      const auto put = [&](ConstTensor x) {
        const OwnedTensor host = to_host(x, test_stream());
        to = std::copy_n(static_cast<const std::byte*>(host.view().data), host.bytes(), to);
      };
      put(whole.q.view().rows(first, first + rows));
      for (size_t i = 0; i < 2; ++i) {
        task.segments[i] = {static_cast<uint32_t>(whole.k[i].dim(0)), 7 + i, first > 0};
        if (first == 0) put(whole.k[i]), put(whole.v[i]);
      }
      CHECK(task.payload_bytes() == static_cast<size_t>(to - in.data()));
      std::vector<std::byte> out(task.answer_bytes());

      REQUIRE(compute(task, in.data(), out.data(), {}, kept, test_stream()));
      found.insert(found.end(), out.begin(), out.end());
      task.segments[1].rows -= 1;  // its keys under this number have other sizes
      if (first > 0) CHECK(!compute(task, in.data(), out.data(), {}, kept, test_stream()));
    }
    REQUIRE(found.size() == whole.expected.bytes());
    CHECK(std::memcmp(found.data(), whole.expected.view().data, found.size()) == 0);
  }
}

TEST_CASE("keys have a number by their content") {
  AttentionCase a(DType::f32, 8, 2, 16, {40}, 1), b(DType::f32, 8, 2, 16, {40}, 2);
  const OwnedTensor k = to_host(a.k[0], test_stream()), v = to_host(a.v[0], test_stream()),
                    other = to_host(b.v[0], test_stream());
  CHECK(number_of(k, v) != 0);
  CHECK(number_of(k, v) == number_of(k, v));
  CHECK(number_of(k, v) != number_of(v, k));
  CHECK(number_of(k, v) != number_of(k, other));
  CHECK(number_of(k.view().rows(0, 39), v.view().rows(0, 39)) != number_of(k, v));

  // One head's columns of a wider matrix: the same as if they lay together.
  const auto head = [](const OwnedTensor& x) {
    return x.view().reshape({40, 32}).columns(16, 32).reshape({40, 1, 16});
  };
  OwnedTensor dense_k(DType::f32, {40, 1, 16}), dense_v(DType::f32, {40, 1, 16});
  copy(head(k), dense_k, test_stream());
  copy(head(v), dense_v, test_stream());
  CHECK(number_of(head(k), head(v)) == number_of(dense_k, dense_v));
}

}  // namespace longtake::testing
