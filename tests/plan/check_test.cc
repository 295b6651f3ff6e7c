// Plans that `check` must accept, what they hold, and the errors of some that it must refuse.
#include "parallel/plan/check.h"

#include <doctest/doctest.h>

#include <ctime>

#include "tests/plan/plan_specs.h"
#include "tests/support/expect_error.h"

using namespace longtake;
using longtake::testing::describe;
using longtake::testing::error_of;
using longtake::testing::go_on;
using longtake::testing::mentions;
using longtake::testing::plan_spec;
using longtake::testing::random_spec;

namespace {

constexpr ContextRule rules[] = {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal,
                                 ContextRule::isolated};

#ifdef __SANITIZE_ADDRESS__
constexpr bool slowed_down = true;
#else
constexpr bool slowed_down = false;
#endif

// Of the processor: what else the machine does counts little.
template <class Action>
double seconds(Action&& action) {
  const std::clock_t begin = std::clock();
  action();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

}  // namespace

TEST_CASE("300 random plans pass, whole and sweep by sweep") {
  std::mt19937_64 random(4);
  for (int i = 0; i < 300; ++i) {
    const PlanSpec spec = random_spec(random);
    CAPTURE(describe(spec));

    const CheckReport whole = check(spec, make_plan(spec));
    const CheckReport swept = check_made(spec);

    const int64_t blocks = spec.layout.blocks().value();
    CHECK(whole.visits == blocks * spec.steps);
    CHECK(whole.emitted == blocks);
    CHECK(whole.instructions == swept.instructions);
    CHECK((whole.peaks == swept.peaks));
  }
}

TEST_CASE("300 random plans of videos that are made longer pass") {
  std::mt19937_64 random(5);
  for (int i = 0; i < 300; ++i) {
    PlanSpec spec = random_spec(random);
    const auto finished = static_cast<int64_t>(1 + random() % 9);
    go_on(spec, finished, finished + static_cast<int64_t>(random() % 20));
    CAPTURE(describe(spec));

    const CheckReport whole = check(spec, make_plan(spec));
    const CheckReport swept = check_made(spec);

    const int64_t blocks = spec.layout.new_blocks().value();
    CHECK(whole.visits == blocks * spec.steps);
    CHECK(whole.emitted == blocks);
    CHECK(whole.instructions == swept.instructions);
  }
}

TEST_CASE("the first block after a finished video must see it, and it is given back") {
  PlanSpec spec = plan_spec({1, 1}, ContextRule::aligned, 2, 1, 1);
  go_on(spec, 5, 9);
  const auto plans = make_plan(spec);
  const auto refused = [&](size_t index, const char* line) {
    auto wrong = plans;
    wrong[0][index] = parse_instruction(line);
    return error_of([&] { check(spec, wrong); });
  };
  CHECK(to_text(plans[0][0]) == "recall b4 v2");
  CHECK(to_text(plans[0][2]) == "embed b5 s0 prefix b4 v2");

  CHECK(mentions(refused(0, "recall b3 v2"), "expected the finished block before the first"));
  CHECK(mentions(refused(0, "recall b4 v1"), "expected the finished block before the first"));
  CHECK(mentions(refused(2, "embed b5 s0"), "expected latent prefix b4 v2"));
  CHECK(mentions(refused(3, "forward b5 s0"), "expected prefix tokens"));
  auto kept = plans;
  std::erase_if(kept[0], [](const auto& i) { return to_text(i) == "release latent b4 v2"; });
  CHECK(mentions(error_of([&] { check(spec, kept); }), "latent b4 2 not given back"));
  PlanSpec from_the_start = spec;
  from_the_start.layout = {2, 1, 3};
  CHECK_THROWS_AS(check(from_the_start, plans), Error);
}

TEST_CASE("two buffers at each end are enough for any depth and any queue") {
  for (const ContextRule rule : rules)
    for (int64_t stages = 1; stages <= 12; ++stages)
      for (int64_t stagger : {1, 2, 5})
        for (int64_t blocks : {1, 2, 7, 30}) {
          const PlanSpec spec = plan_spec({stages, 1}, rule, 20, stagger, blocks);
          CAPTURE(describe(spec));
          CHECK_NOTHROW(check_made(spec, {}, 2));
          CHECK_NOTHROW(check_made(spec, {}, 3));
        }
}

TEST_CASE("one buffer at each end is not, and that is found") {
  const PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 20, 1, 30);

  const Error error = error_of([&] { check_made(spec, {}, 1); });

  CHECK(mentions(error, "deadlock"));
  CHECK(mentions(error, "rank 0, instruction "));
  CHECK(mentions(error, "rank 1, instruction "));
}

TEST_CASE("a rank holds as much as its rule needs") {
  const int64_t steps = 12, blocks = 30;
  for (int64_t stagger : {1, 2, 3}) {
    const int64_t queue = steps / stagger;
    const auto peaks = [&](ContextRule rule, Mesh mesh) {
      return check_made(plan_spec(mesh, rule, steps, stagger, blocks)).peaks;
    };

    for (const Mesh mesh : {Mesh{1, 1}, Mesh{4, 2}}) {
      // aligned: each of the live blocks' tails of the last r steps, and the one just made; one
      // head going to the block visited next, and that block's own.
      for (const RankPeak& p : peaks(ContextRule::aligned, mesh)) {
        CHECK(p.tails == steps + 1);
        CHECK(p.heads == (queue > 2 ? 2 : 1));
      }
      for (const RankPeak& p : peaks(ContextRule::dualparal, mesh)) CHECK(p.tails == 0);
      // causal: the finished block's, the one read and the one just made.
      for (const RankPeak& p : peaks(ContextRule::causal, mesh)) {
        CHECK(p.heads == 0);
        CHECK(p.tails == 3);
      }
      for (const RankPeak& p : peaks(ContextRule::isolated, mesh)) CHECK(p.heads + p.tails == 0);
      const auto latents = peaks(ContextRule::isolated, mesh);
      CHECK(latents.back().latents <= queue + 1);
      CHECK(latents.back().solvers == queue);
      if (mesh.stages > 1) CHECK(latents[1].latents == 0);
    }
  }
}

TEST_CASE("an unbounded video needs constant memory") {
  for (const ContextRule rule : rules) {
    const PlanSpec spec = plan_spec({4, 2}, rule, 20, 2, {});

    const CheckReport early = check_made(spec, 200);
    const CheckReport late = check_made(spec, 2000);

    CHECK((early.peaks == late.peaks));
    CHECK(late.emitted >= (2000 - 20) / 2);
    CHECK(late.visits >= 1990 * 10 - 200);
  }
}

TEST_CASE("errors name the rank, the instruction and what was expected") {
  const PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 3, 1, 3);
  const auto plans = make_plan(spec);
  const auto refused = [&](int64_t rank, size_t index, const char* line) {
    auto wrong = plans;
    wrong[static_cast<size_t>(rank)][index] = parse_instruction(line);
    return error_of([&] { check(spec, wrong); });
  };
  CHECK(to_text(plans[0][3]) == "send tokens b0 s0 to r1");

  const Error peer = refused(0, 3, "send tokens b0 s0 to r7");
  CHECK(peer.code() == ExitCode::error);
  CHECK(mentions(peer, "rank 0, instruction 3 `send tokens b0 s0 to r7`: expected rank 1"));
  CHECK(mentions(refused(0, 2, "forward b0 s0 prefix tail(b0 s0)"), "expected prefix none"));
  CHECK(
      mentions(refused(1, 1, "recv tokens b1 s0 from r0"), "next message on this channel is b0 0"));
  CHECK(mentions(refused(0, 1, "release latent b0 v9"), "expected something that is there"));
  CHECK(mentions(error_of([&] {
                   check(plan_spec({3, 1}, spec.rule, 3, 1, 3), plans);
                 }),
                 "expected lists of 3 ranks, found 2"));
}

TEST_CASE("what nobody reads is not made") {
  const PlanSpec spec = plan_spec({1, 1}, ContextRule::isolated, 2, 1, 1);
  auto plans = make_plan(spec);
  CHECK(to_text(plans[0][2]) == "forward b0 s0");
  plans[0][2] = parse_instruction("forward b0 s0 publish tail");
  plans[0].insert(plans[0].begin() + 3, parse_instruction("release tail(b0 s0)"));

  CHECK(mentions(error_of([&] { check(spec, plans); }), "expected something that was read"));
}

// Q = 50 and 1,025 frames on 512 ranks starve, and are refused before a plan is made; the plan
// exists all the same. 256 stages find work from 256 steps on.
TEST_CASE("plans of large jobs are made and checked in time") {
  struct Job {
    std::string what;
    Mesh mesh;
    int64_t steps, blocks;
    double limit_s;
  };
  const Job jobs[] = {{"8 ranks, 50 steps, 32 blocks", {4, 2}, 50, 32, 1},
                      {"64 ranks, 50 steps, 32 blocks", {32, 2}, 50, 32, 10},
                      {"512 ranks, 50 steps, 32 blocks", {256, 2}, 50, 32, 10},
                      {"512 ranks, 256 steps, 256 blocks", {256, 2}, 256, 256, 10}};
  for (const Job& job : jobs) {
    const PlanSpec spec = plan_spec(job.mesh, ContextRule::aligned, job.steps, 1, job.blocks);
    CheckReport report;

    const double taken = seconds([&] { report = check_made(spec); });

    MESSAGE(job.what << ": " << report.instructions << " instructions in " << taken << " s");
    CHECK(report.visits == job.steps * job.blocks);
    if (!slowed_down) CHECK(taken < 3 * job.limit_s);
  }
}
