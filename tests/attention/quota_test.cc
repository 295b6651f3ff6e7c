#include <doctest/doctest.h>

#include "parallel/attention/quota.h"

namespace longtake {
namespace {

// Three heads of 1 s each and 1 s of linear work in both branches.
std::vector<MeasuredCall> two_branches() {
  const MeasuredCall call{1.0, 1000, 1000, 3, 100, 4};
  return {call, call};
}
constexpr double kPace = 1e-8;

MeasuredWorker worker(int id, double speed, double bytes_per_s = 1e12) {
  return {id, 1e8 * speed, 1.0, bytes_per_s, 1.0};
}

int64_t heads_of(const Quota& quota, int id) {
  int64_t count = 0;
  for (int branch = 0; branch < 2; ++branch)
    for (int64_t head = 0; head < 3; ++head) count += quota.gives(branch, head, id) ? 1 : 0;
  return count;
}

TEST_CASE("a worker gets what makes both end together") {
  Quota quota;
  CHECK(!quota.planned());
  CHECK(!quota.no_workers());
  quota.plan(two_branches(), kPace, {worker(0, 1)});
  REQUIRE(quota.planned());
  CHECK(heads_of(quota, 0) >= 3);
  CHECK(quota.last()->seconds < 0.65 * quota.last()->alone_s);
}

TEST_CASE("the map stays while measured times waver, and changes when a worker does") {
  Quota quota;
  quota.plan(two_branches(), kPace, {worker(0, 1), worker(1, 1)});
  const HeadMap first = quota.last()->heads;
  quota.plan(two_branches(), kPace, {worker(0, 1.05), worker(1, 0.97)});
  CHECK(quota.last()->heads == first);
  CHECK(quota.changes() == 0);
  quota.plan(two_branches(), kPace, {worker(0, 1), worker(1, 0.1)});
  CHECK(quota.changes() == 1);
  CHECK(heads_of(quota, 0) > heads_of(quota, 1));
  quota.plan(two_branches(), kPace, {worker(1, 1)});
  CHECK(heads_of(quota, 0) == 0);
}

TEST_CASE("nobody is asked over a link that takes longer than the work") {
  Quota quota;
  quota.plan(two_branches(), kPace, {worker(0, 1, 1e3)});
  CHECK(quota.no_workers());
  quota.plan(two_branches(), kPace, {});
  CHECK(!quota.planned());
}

}  // namespace
}  // namespace longtake
