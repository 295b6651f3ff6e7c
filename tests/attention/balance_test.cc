// The quota planner: against exhaustive search, and what it must keep.
#include "parallel/attention/balance.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Case {
  std::vector<BranchWork> branches;
  std::vector<WorkerRate> workers;
};

double rows_share(const BranchWork& branch, const HeadPlace& place) {
  return static_cast<double>(place.rows) / static_cast<double>(branch.queries);
}

// Seconds of a worker in one branch.
double work_of(const WorkerRate& worker, size_t b, const BranchWork& branch,
               const std::vector<HeadPlace>& map) {
  double compute = 0, transfer = 0, tasks = 0;
  for (size_t h = 0; h < map.size(); ++h) {
    if (map[h].rows == 0 || map[h].worker != worker.id) continue;
    const HeadWork& head = branch.heads[h];
    const double share = rows_share(branch, map[h]);
    const bool there = !worker.resident.empty() && worker.resident[b][h];
    const double bytes =
        share * (head.query_bytes + head.answer_bytes) + (there ? 0.0 : head.key_bytes);
    compute += share * head.seconds / worker.speed;
    transfer += worker.latency_s + bytes / worker.bandwidth;
    ++tasks;
  }
  if (tasks == 0) return 0;
  return worker.overlap ? std::max(compute, transfer) + transfer / tasks : compute + transfer;
}

// The seconds of a map, written down once more and plainly.
double seconds_of(const Case& c, const HeadMap& map) {
  double rank = 0, most = 0;
  std::vector<double> total(c.workers.size());
  for (size_t b = 0; b < c.branches.size(); ++b) {
    const BranchWork& branch = c.branches[b];
    rank += branch.own_s;
    for (size_t h = 0; h < branch.heads.size(); ++h)
      rank += (1 - rows_share(branch, map[b][h])) * branch.heads[h].seconds;
    for (size_t w = 0; w < c.workers.size(); ++w) {
      const double here = work_of(c.workers[w], b, branch, map[b]);
      total[w] += here;
      if (here > 0) most = std::max(most, branch.own_s + here / planned_end);
    }
  }
  for (const double work : total) most = std::max(most, work / planned_end);
  return std::max(rank, most);
}

// All places of the heads of one branch, at most one of them cut.
std::vector<std::vector<HeadPlace>> all_places(const BranchWork& branch,
                                               const std::vector<WorkerRate>& workers) {
  std::vector<std::vector<HeadPlace>> out{{}};
  const auto cut = [&](const HeadPlace& p) { return p.rows > 0 && p.rows < branch.queries; };
  for (size_t h = 0; h < branch.heads.size(); ++h) {
    std::vector<std::vector<HeadPlace>> longer;
    for (const auto& before : out) {
      std::vector<HeadPlace> choices{{}};
      const bool may_cut = std::none_of(before.begin(), before.end(), cut);
      for (const WorkerRate& worker : workers) {
        choices.push_back({worker.id, branch.queries});
        for (int64_t rows = cut_rows; may_cut && rows < branch.queries; rows += cut_rows)
          choices.push_back({worker.id, rows});
      }
      for (const HeadPlace& choice : choices) {
        longer.push_back(before);
        longer.back().push_back(choice);
      }
    }
    out = std::move(longer);
  }
  return out;
}

double exhaustive(const Case& c) {
  double least = kInfinity;
  const auto first = all_places(c.branches[0], c.workers);
  if (c.branches.size() == 1) {
    for (const auto& places : first) least = std::min(least, seconds_of(c, {places}));
    return least;
  }
  HeadMap map(2);
  const auto second = all_places(c.branches[1], c.workers);
  for (const auto& a : first) {
    map[0] = a;
    for (const auto& b : second) {
      map[1] = b;
      least = std::min(least, seconds_of(c, map));
    }
  }
  return least;
}

// Few heads, unequal in everything; some workers of no use.
Case random_case(std::mt19937_64& random) {
  const auto real = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  const auto whole = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  Case c;
  const int branches = whole(1, 2), workers = whole(1, branches == 1 ? 3 : 2);
  const int heads = branches == 1 ? whole(1, 5) : whole(1, 3);
  const double spread = real(1, 4), bytes = std::pow(10, real(-3, 0));
  for (int b = 0; b < branches; ++b) {
    BranchWork branch;
    branch.own_s = real(0, 3);
    branch.queries = whole(1, 4) * 128 - whole(0, 1) * 40;
    for (int h = 0; h < heads; ++h)
      branch.heads.push_back({real(1, spread), real(0, bytes), real(0, bytes), real(0, bytes)});
    c.branches.push_back(branch);
  }
  for (int w = 0; w < workers; ++w) {
    WorkerRate worker{10 + w,       std::pow(4, real(-1.5, 1)), std::pow(10, real(-1, 2)),
                      real(0, 0.2), whole(0, 1) == 1,           {}};
    if (whole(0, 1) == 1)
      for (int b = 0; b < branches; ++b) {
        std::vector<bool> there;
        for (int h = 0; h < heads; ++h) there.push_back(whole(0, 2) == 0);
        worker.resident.push_back(there);
      }
    c.workers.push_back(worker);
  }
  return c;
}

// `heads` equal heads of 1 s in each branch, own work of 1.2 s, bytes that count little.
Case even_case(size_t branches, size_t heads, std::vector<double> speeds) {
  Case c;
  for (size_t b = 0; b < branches; ++b)
    c.branches.push_back({1.2, 1280, std::vector<HeadWork>(heads, HeadWork{1.0, 1e6, 2e6, 1e6})});
  for (const double speed : speeds)
    c.workers.push_back({static_cast<int>(c.workers.size()), speed, 1e9, 1e-3, false, {}});
  return c;
}

bool local(const HeadMap& map) {
  for (const auto& branch : map)
    for (const HeadPlace& place : branch)
      if (place.rows > 0) return false;
  return true;
}

}  // namespace

TEST_CASE("balance: 200 random cases, never slower than alone, within 5 % of exhaustive search") {
  std::mt19937_64 random(7);
  int with_workers = 0, cut = 0, exact = 0;
  double worst = 1, sum = 0;
  for (int i = 0; i < 200; ++i) {
    const Case c = random_case(random);
    CAPTURE(i);
    const Balance found = balance(c.branches, c.workers);
    const double least = exhaustive(c);

    CHECK(found.seconds == doctest::Approx(seconds_of(c, found.heads)).epsilon(1e-9));
    CHECK(found.seconds <= found.alone_s * (1 + 1e-12));
    CHECK(found.seconds <= 1.05 * least);
    CHECK(found.seconds >= least * (1 - 1e-9));
    CHECK(found.uses_workers() == !local(found.heads));
    with_workers += found.uses_workers();
    for (size_t b = 0; b < found.heads.size(); ++b)
      for (const HeadPlace& place : found.heads[b])
        cut += place.rows > 0 && place.rows < c.branches[b].queries;
    exact += found.seconds <= least * (1 + 1e-9);
    worst = std::max(worst, found.seconds / least);
    sum += found.seconds / least;
  }
  MESSAGE("of 200: ", with_workers, " with workers, ", cut, " cuts, ", exact,
          " optimal, the worst ", worst, ", mean ", sum / 200);
  CHECK(with_workers > 100);
  CHECK(with_workers < 200);
}

TEST_CASE("balance: many heads are shared in the ratio of speeds, planned to end in time") {
  const Case c = even_case(2, 40, {1.0, 0.5});
  const Balance found = balance(c.branches, c.workers);

  // All work over what rank and workers do in a second: 82.4 / (1 + 0.875 * 1.5), transfers aside.
  CHECK(found.seconds == doctest::Approx(82.4 / 2.3125).epsilon(0.01));
  CHECK(found.alone_s == doctest::Approx(82.4));
  REQUIRE(found.shares.size() == 2);
  CHECK(found.shares[0].tasks > 1.8 * static_cast<double>(found.shares[1].tasks));
  for (const WorkerShare& share : found.shares) {
    CHECK(share.seconds <= planned_end * found.seconds * (1 + 1e-9));
    CHECK(share.seconds >= 0.97 * planned_end * found.seconds);
    CHECK(share.hidden_share == 1);
  }
  CHECK(balance(c.branches, c.workers).heads == found.heads);
}

// The answer of the only branch is awaited in the same call: its own work hides nothing.
TEST_CASE("balance: one branch alone hides remote heads behind its local ones only") {
  const Case one = even_case(1, 10, {4.0}), two = even_case(2, 10, {4.0});
  const Balance a = balance(one.branches, one.workers), b = balance(two.branches, two.workers);

  // 10 = x + 0.875 * 4 x.
  CHECK(a.seconds - 1.2 >= 10 / (1 + 4 * planned_end));
  CHECK(a.seconds - 1.2 == doctest::Approx(10 / (1 + 4 * planned_end)).epsilon(0.02));
  CHECK(b.seconds == doctest::Approx(22.4 / (1 + 4 * planned_end)).epsilon(0.02));
  CHECK(b.seconds < 2 * a.seconds - 1.5);
}

TEST_CASE("balance: a map is kept until another is better by the hysteresis") {
  const Case before = even_case(2, 6, {1.0, 1.0});
  const Balance first = balance(before.branches, before.workers);
  const auto now = [&](double speed) {
    Case c = before;
    c.workers[1].speed = speed;
    return c;
  };
  const auto seconds_of_kept = [&](const Case& c) {
    return weigh(c.branches, c.workers, first.heads)->seconds;
  };

  for (const double speed : {0.97, 0.9, 0.7, 0.5, 0.3}) {
    CAPTURE(speed);
    const Case c = now(speed);
    const Balance fresh = balance(c.branches, c.workers);
    const Balance sticky = balance(c.branches, c.workers, &first.heads);
    const bool much_better = fresh.seconds < (1 - balance_hysteresis) * seconds_of_kept(c);
    CHECK((sticky.heads == first.heads) == !much_better);
    CHECK(sticky.seconds == (much_better ? fresh.seconds : seconds_of_kept(c)));
    CHECK(much_better == (speed < 0.85));
  }
}

TEST_CASE("balance: a map that names a lost worker, or does not fit, or is too slow is given up") {
  const Case c = even_case(2, 6, {1.0, 1.0});
  const Balance first = balance(c.branches, c.workers);
  const auto without = std::span(c.workers).first(1);
  const Case deeper = even_case(2, 7, {1.0, 1.0});
  Case slow = c;
  for (WorkerRate& worker : slow.workers) worker.speed = 1e-3;
  HeadMap odd = first.heads;
  odd[0][0] = {0, 100};

  CHECK(balance(c.branches, without, &first.heads).shares.size() == 1);
  CHECK(balance(deeper.branches, deeper.workers, &first.heads).heads ==
        balance(deeper.branches, deeper.workers).heads);
  CHECK(!balance(slow.branches, slow.workers, &first.heads).uses_workers());
  CHECK(!weigh(c.branches, c.workers, odd));
  odd[0][0] = {0, 128};
  odd[0][1] = {1, 128};
  CHECK(!weigh(c.branches, c.workers, odd));
  odd[0][1] = {1, 0};
  CHECK(!weigh(c.branches, c.workers, odd));
}

TEST_CASE("balance: heads go where their keys are") {
  Case c = even_case(2, 4, {1.0, 1.0});
  for (WorkerRate& worker : c.workers) worker.bandwidth = 2e7;
  c.workers[0].resident.assign(2, {true, true, false, false});
  c.workers[1].resident.assign(2, {false, false, true, true});
  const Balance found = balance(c.branches, c.workers);

  double bytes = 0;
  for (const WorkerShare& share : found.shares) bytes += share.bytes;
  int64_t remote = 0;
  for (const auto& branch : found.heads)
    for (size_t h = 0; h < branch.size(); ++h) {
      if (branch[h].rows == 0) continue;
      CHECK(branch[h].worker == (h < 2 ? 0 : 1));
      remote += branch[h].rows;
    }
  CHECK(remote > 4 * 1280);
  CHECK(bytes == doctest::Approx(2e6 * static_cast<double>(remote) / 1280));
}

TEST_CASE("balance: no workers where there are none, or none is of use") {
  const auto alone = [](const Case& c) {
    const Balance found = balance(c.branches, c.workers);
    CHECK(found.seconds == found.alone_s);
    CHECK(found.rank_s == found.alone_s);
    return !found.uses_workers() && local(found.heads);
  };
  Case no_link = even_case(2, 4, {1.0}), slow_link = no_link, far = no_link, no_speed = no_link,
       one_head = even_case(1, 1, {0.5}), nothing = even_case(2, 0, {1.0});
  no_link.workers[0].bandwidth = 0;
  slow_link.workers[0].bandwidth = 2e5;  // 20 s a head
  far.workers[0].latency_s = 50;
  no_speed.workers[0].speed = 0;
  one_head.branches[0].queries = 128;

  CHECK(alone(even_case(2, 4, {})));
  CHECK(alone(no_link));
  CHECK(alone(slow_link));
  CHECK(alone(far));
  CHECK(alone(no_speed));
  CHECK(alone(one_head));
  CHECK(alone(nothing));
  CHECK(balance({}, {}).seconds == 0);
}

TEST_CASE("balance: the only head is cut by query rows") {
  const Case c = even_case(1, 1, {1.0});
  const Balance found = balance(c.branches, c.workers);

  const HeadPlace place = found.heads[0][0];
  CHECK(place.worker == 0);
  CHECK(place.rows % cut_rows == 0);
  // Half of 1280 rows is 0.504 s with transfer and counts 0.576 s; 512 rows leave 0.6 s here.
  CHECK(place.rows == 640);
  CHECK(found.seconds == doctest::Approx(1.2 + 0.504 / planned_end));
}

TEST_CASE("balance: what is exposed is said") {
  Case c = even_case(1, 2, {1.0});
  c.branches[0].queries = 100;  // cannot be cut
  c.workers[0].latency_s = 0.1;
  const Balance found = balance(c.branches, c.workers);

  REQUIRE(found.shares.size() == 1);
  CHECK(found.shares[0].tasks == 1);
  // The worker's 1.104 s against the local head's 1 s.
  CHECK(found.shares[0].seconds == doctest::Approx(1.104));
  CHECK(found.shares[0].hidden_share == doctest::Approx(1 / 1.104));
}

TEST_CASE("balance: a worker that moves while it computes takes the longer of both") {
  Case serial = even_case(2, 12, {1.0});
  serial.workers[0].bandwidth = 8e6;  // half a second a head
  Case overlapped = serial;
  overlapped.workers[0].overlap = true;
  const double slow = balance(serial.branches, serial.workers).seconds,
               fast = balance(overlapped.branches, overlapped.workers).seconds;

  // 26.4 s shared with a worker of speed 1 / 1.5, and of speed 1 with half a second bare in a call:
  // x + 1 = planned_end (26.4 - x).
  CHECK(slow == doctest::Approx(26.4 / (1 + planned_end / 1.5)).epsilon(0.02));
  CHECK(fast == doctest::Approx(26.4 - (planned_end * 26.4 - 1) / (1 + planned_end)).epsilon(0.02));
}

TEST_CASE("balance: impossible input is refused") {
  Case c = even_case(2, 2, {1.0, 1.0});
  const auto refused = [](const Case& wrong, const char* why) {
    const Error error = error_of([&] { balance(wrong.branches, wrong.workers); });
    CHECK_MESSAGE(mentions(error, why), error.what());
  };
  Case wrong = c;
  wrong.branches[0].heads[1].seconds = -1;
  refused(wrong, "seconds of a head: expected 0 or more, found -1");
  wrong = c;
  wrong.workers[0].speed = kInfinity;
  refused(wrong, "speed of a worker: expected 0 or more, found inf");
  wrong = c;
  wrong.workers[1].id = 0;
  refused(wrong, "worker 0 is given twice");
  wrong = c;
  wrong.workers[1].resident.assign(1, {true, true});
  refused(wrong, "worker 1: expected residency of every head of 2 branches");
  wrong = c;
  wrong.branches[1].queries = 0;
  refused(wrong, "expected at least one query row, found 0");
}

}  // namespace longtake
