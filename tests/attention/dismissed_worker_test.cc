// A worker that answered other bits hears that it is not wanted, also through sockets.
#include <doctest/doctest.h>

#include "tests/attention/door.h"
#include "tests/attention/worker_fixture.h"

namespace longtake::testing {

TEST_CASE("a worker that answers other bits is told to leave, and does not come again") {
  for (const bool shared_memory : {false, true}) {
    CAPTURE(shared_memory);
    const WorkerToken token = random_token();
    PairListener door(token, hello().numerics, large_terms(), shared_memory, DoorReach::host);
    LinkedPair pair = join(door, token);
    DispatchRules rules;
    rules.least_work = 0;
    rules.weigh = false;
    AttentionDispatcher dispatcher(rules, nullptr);
    dispatcher.add_worker(std::move(pair.rank));
    WorkerRules worker_rules;
    worker_rules.before_answer = [](AttentionAnswer& answer, std::byte* payload) {
      payload[0] ^= std::byte{1};
      answer.checksum = payload_checksum(payload, answer.payload_bytes);
    };
    ThreadWorker worker(std::move(pair.worker), worker_rules);
    REQUIRE(dispatcher.workers(1, 10) == 1);

    AttentionCase one(DType::f32, 520, 3, 32, {520}, 1);
    for (int i = 0; i < 400 && dispatcher.workers() > 0; ++i) {
      dispatcher.finish(dispatcher.start(one.args(), {}, test_stream()), test_stream());
      CHECK(one.right());
    }

    REQUIRE(dispatcher.report().workers.at(0).state == WorkerState::dead);
    const WorkerSummary& told = worker.join();
    CHECK(told.goodbyes == 1);
    CHECK(told.broken.empty());
  }
}

}  // namespace longtake::testing
