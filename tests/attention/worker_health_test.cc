#include <doctest/doctest.h>

#include "parallel/attention/worker_health.h"

namespace longtake {
namespace {

TEST_CASE("a worker is tried, trusted, suspected, tried again") {
  WorkerHealth health({}, 0);
  CHECK(health.on_trial());
  health.answered(1, 100);
  CHECK(health.state() == WorkerState::probation);
  health.compared(true);
  CHECK(health.trusted());

  health.missed(0.5);
  CHECK(health.trusted());
  health.missed(0.7);
  CHECK(health.state() == WorkerState::suspect);
  CHECK(health.reason() == "2 tasks late in a row, the last by 0.70 s");
  health.answered(1, 100);
  CHECK(health.on_trial());
  health.compared(true);
  CHECK(health.trusted());
}

TEST_CASE("an answer in between forgives a late one") {
  WorkerHealth health({}, 0);
  health.compared(true);
  for (int i = 0; i < 5; ++i) {
    health.missed(1);
    health.answered(1, 100);
  }
  CHECK(health.trusted());
}

TEST_CASE("dead is for good") {
  WorkerHealth health({}, 0);
  health.lost("closed");
  health.answered(1, 1);
  health.compared(true);
  health.missed(1);
  health.missed(1);
  CHECK(health.state() == WorkerState::dead);
  CHECK(health.reason() == "closed");
}

TEST_CASE("other bits are the end") {
  WorkerHealth health({}, 0);
  health.compared(true);
  health.compared(false);
  CHECK(health.state() == WorkerState::dead);
}

TEST_CASE("silence is counted from the last sign of life") {
  WorkerHealth health({.heartbeat_s = 1, .missed_heartbeats = 5}, 10);
  CHECK(!health.silent(15));
  CHECK(health.silent(15.1));
  health.heard(15);
  CHECK(!health.silent(20));
}

TEST_CASE("a deadline is three times the mean, or six deviations above it") {
  HealthRules rules;
  rules.least_deadline_s = 0;
  WorkerHealth health(rules, 0);
  CHECK(health.deadline_s(1) == rules.first_deadline_s);
  for (int i = 0; i < 100; ++i) health.answered(2, 4);
  CHECK(health.deadline_s(10) == doctest::Approx(15));
  // Half of the answers take 0, half twice the mean: the deviation is the mean.
  for (int i = 0; i < 1000; ++i) health.answered(i % 2 ? 4 : 0, 4);
  CHECK(health.deadline_s(10) > 6 * 10 * health.pace().deviation());
  CHECK(health.pace().deviation() == doctest::Approx(0.5).epsilon(0.1));
}

}  // namespace
}  // namespace longtake
