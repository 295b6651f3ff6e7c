// The simulator on lists small enough to check by hand, and the idle slots of real plans.
#include "parallel/plan/simulate.h"

#include <doctest/doctest.h>

#include "parallel/plan/check.h"
#include "tests/plan/plan_specs.h"

using namespace longtake;
using longtake::testing::describe;
using longtake::testing::plan_spec;
using longtake::testing::random_spec;

namespace {

using List = std::vector<Instruction>;

List parse(std::initializer_list<const char*> lines) {
  List out;
  for (const char* line : lines) out.push_back(parse_instruction(line));
  return out;
}

// Forward on rank k takes 2 + k seconds, the solver 1; a message takes 0.5; sizes are all distinct
// powers of ten.
class CountableCosts : public Costs {
 public:
  double seconds(RankId rank, const Instruction& i) const override {
    if (std::holds_alternative<Forward>(i)) return 2.0 + static_cast<double>(rank.value);
    return std::holds_alternative<SolverStep>(i) ? 1 : 0;
  }
  double link_seconds(RankId, const Send&) const override { return 0.5; }
  double message_bytes(RankId, const Send& s) const override {
    return s.payload == Payload::tokens ? 1 + static_cast<double>(s.block.value) : 0;
  }
  double latent_bytes(RankId, const Latent&) const override { return 100; }
  double features_bytes(RankId, const Features&) const override { return 10000; }
  double solver_bytes(RankId, BlockId) const override { return 1e6; }
  double fixed_bytes(RankId rank) const override {
    return 1e8 * (1 + static_cast<double>(rank.value));
  }
};

double slots(const PlanSpec& spec) {
  return simulate(spec, UniformCosts()).makespan_s;
}

}  // namespace

TEST_CASE("two ranks by hand") {
  const CountableCosts costs;
  std::vector<std::string> events;
  Simulator simulator({2, 1}, costs, false, [&](const SimulatedEvent& e) {
    events.push_back(fmt::format("r{} {} {}-{} {}", e.rank.value, e.index, e.begin_s, e.end_s,
                                 to_text(e.instruction)));
  });
  simulator.add({0}, parse({"admit b0", "embed b0 s0", "forward b0 s0", "send tokens b0 s0 to r1",
                            "release latent b0 v0", "recv latent b0 v1 from r1"}));
  simulator.add({1}, parse({"admit b0", "recv tokens b0 s0 from r0", "forward b0 s0 publish tail",
                            "head b0 s0", "solve b0 s0", "send latent b0 v1 to r0",
                            "release latent b0 v0", "emit b0"}));

  simulator.play();
  const Simulation out = simulator.result();

  CHECK(events == std::vector<std::string>{
                      "r0 0 0-0 admit b0", "r0 1 0-0 embed b0 s0", "r0 2 0-2 forward b0 s0",
                      "r0 3 2-2 send tokens b0 s0 to r1", "r0 4 2-2 release latent b0 v0",
                      "r1 0 0-0 admit b0", "r1 1 2.5-2.5 recv tokens b0 s0 from r0",
                      "r1 2 2.5-5.5 forward b0 s0 publish tail", "r1 3 5.5-5.5 head b0 s0",
                      "r1 4 5.5-6.5 solve b0 s0", "r1 5 6.5-6.5 send latent b0 v1 to r0",
                      "r1 6 6.5-6.5 release latent b0 v0", "r1 7 6.5-6.5 emit b0",
                      "r0 5 7-7 recv latent b0 v1 from r1"});
  CHECK(out.makespan_s == 7);
  CHECK(out.first_block_s == 6.5);
  CHECK(out.blocks == 1);
  CHECK(out.ranks[0].busy_s == 2);
  CHECK(out.ranks[0].wait_s == 5);
  CHECK(out.ranks[1].busy_s == 4);
  CHECK(out.ranks[1].wait_s == 2.5);
  CHECK(out.idle_s({0}) == 5);
  CHECK(out.idle_share() == doctest::Approx(1 - 6.0 / 14));
  CHECK(out.ranks[0].peak_bytes == 1e8 + 100 + 2);
  CHECK(out.ranks[1].peak_bytes == 2e8 + 1e6 + 2 * 100 + 10000 + 2);
  REQUIRE(out.links.size() == 2);
  CHECK(out.links[0].to.value == 1);
  CHECK(out.links[0].messages == 1);
  CHECK(out.links[0].bytes == 1);
  CHECK(out.links[1].payload == Payload::latent);
}

TEST_CASE("messages of a channel follow each other") {
  const CountableCosts costs;
  Simulator simulator({2, 1}, costs);
  simulator.add({0}, parse({"send tokens b0 s0 to r1", "send tokens b1 s0 to r1",
                            "send tokens b2 s0 to r1"}));
  simulator.add({1}, parse({"recv tokens b0 s0 from r0", "recv tokens b1 s0 from r0",
                            "recv tokens b2 s0 from r0"}));

  simulator.play();

  CHECK(simulator.result().makespan_s == 1.5);
  CHECK(simulator.result().links[0].bytes == 6);
  CHECK(simulator.result().ranks[1].peak_bytes == 2e8 + 2 * 3);
}

// queue.md 4.2: idle = (N - 1)^2 with the own dependency only, N^2 - 1 with the strict prefix.
TEST_CASE("idle slots of a full pipeline") {
  for (int64_t stages = 2; stages <= 16; ++stages)
    for (const int64_t blocks : {stages + 1, stages + 5, int64_t{32}}) {
      const int64_t steps = 50;
      const auto idle = [&](ContextRule rule) {
        const PlanSpec spec = plan_spec({stages, 1}, rule, steps, 1, blocks);
        return slots(spec) - static_cast<double>(blocks * steps);
      };
      CAPTURE(stages);
      CAPTURE(blocks);

      CHECK(idle(ContextRule::aligned) <= (stages - 1) * (stages - 1));
      CHECK(idle(ContextRule::isolated) <= (stages - 1) * (stages - 1));
      CHECK(idle(ContextRule::dualparal) <= stages * stages - 1);
      CHECK(idle(ContextRule::aligned) >= stages - 1);
    }
}

TEST_CASE("two branches are two pipelines of half the depth") {
  const PlanSpec spec = plan_spec({4, 2}, ContextRule::dualparal, 50, 1, 32);
  CHECK(slots(spec) == slots(plan_spec({4, 1}, ContextRule::dualparal, 50, 1, 32)));
  CHECK(slots(spec) <= 1615);
}

// Visits take 1 slot, every second one of a branch 1.5, in turn: neither branch is slower than the
// other, but one of them is late at every visit.
TEST_CASE("a branch that is late now and then does not hold the other up") {
  struct Uneven : UniformCosts {
    int64_t stages;
    explicit Uneven(int64_t n) : stages(n) {}
    double seconds(RankId rank, const Instruction& i) const override {
      const auto* visit = std::get_if<Forward>(&i);
      if (!visit) return 0;
      const int64_t branch = rank.value / stages;
      return (visit->block.value + branch) % 2 == 0 ? 1 : 1.5;
    }
  };
  const int64_t steps = 50, blocks = 32, visits = steps * blocks;
  for (const ContextRule rule :
       {ContextRule::aligned, ContextRule::dualparal, ContextRule::causal, ContextRule::isolated}) {
    const PlanSpec spec = plan_spec({1, 2}, rule, steps, 1, blocks);

    const Simulation out = simulate(spec, Uneven(1));

    CAPTURE(std::string(name(rule)));
    CHECK(out.makespan_s >= 1.25 * visits);
    CHECK(out.makespan_s <= 1.01 * 1.25 * visits);  // 1.5 with a wait at every visit
  }
}

TEST_CASE("stagger trades the first block for the whole") {
  struct Row {
    int64_t stagger, makespan, first_block;
  };
  for (const Row& row :
       {Row{1, 1663, 1139}, Row{2, 1733, 720}, Row{4, 1873, 478}, Row{6, 2082, 444}}) {
    const PlanSpec spec = plan_spec({8, 1}, ContextRule::dualparal, 50, row.stagger, 32);
    const PlanSpec aligned = plan_spec({8, 1}, ContextRule::aligned, 50, row.stagger, 32);

    const Simulation out = simulate(spec, UniformCosts());
    const Simulation other = simulate(aligned, UniformCosts());

    MESSAGE("stagger " << row.stagger << ": dualparal " << out.makespan_s << " slots, first block "
                       << *out.first_block_s << "; aligned " << other.makespan_s << ", "
                       << *other.first_block_s);
    CHECK(out.makespan_s <= static_cast<double>(row.makespan));
    CHECK(*out.first_block_s <= static_cast<double>(row.first_block));
    CHECK(out.blocks == 32);
  }
}

TEST_CASE("the time of random plans obeys its lower bounds") {
  std::mt19937_64 random(11);
  for (int i = 0; i < 100; ++i) {
    const PlanSpec spec = random_spec(random);
    CAPTURE(describe(spec));
    const auto visits = static_cast<double>(spec.layout.blocks().value() * spec.steps);
    const auto stages = static_cast<double>(spec.mesh.stages);

    const Simulation out = simulate(spec, UniformCosts());

    CHECK(out.makespan_s >= visits + stages - 1);
    CHECK(out.makespan_s <= visits * stages);
    CHECK(*out.first_block_s >= static_cast<double>(spec.steps) * stages);
    CHECK(*out.last_block_s == out.makespan_s);
    CHECK(out.idle_share() == doctest::Approx(1 - visits / out.makespan_s));
    for (const SimulatedRank& rank : out.ranks) CHECK(rank.busy_s == visits);
  }
}

// Bytes follow from what `check` counts: with a size of one for one kind, they are its peak.
TEST_CASE("peak bytes are what check counts") {
  class TailBytes : public UniformCosts {
    double features_bytes(RankId, const Features& f) const override {
      return f.edge == Edge::tail ? 1 : 0;
    }
  };
  class LatentBytes : public UniformCosts {
    double latent_bytes(RankId, const Latent&) const override { return 1; }
  };
  for (const ContextRule rule : {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal})
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{3, 1}, Mesh{2, 2}}) {
      const PlanSpec spec = plan_spec(mesh, rule, 8, 2, 9);
      const CheckReport counted = check_made(spec);
      const Simulation tails = simulate(spec, TailBytes()), latents = simulate(spec, LatentBytes());
      for (size_t rank = 0; rank < counted.peaks.size(); ++rank) {
        CHECK(tails.ranks[rank].peak_bytes == static_cast<double>(counted.peaks[rank].tails));
        CHECK(latents.ranks[rank].peak_bytes == static_cast<double>(counted.peaks[rank].latents));
      }
    }
}

TEST_CASE("an unbounded video emits a block every Q slots") {
  const PlanSpec spec = plan_spec({4, 2}, ContextRule::aligned, 20, 2, {});
  const Simulation early = simulate(spec, UniformCosts(), 200);
  const Simulation late = simulate(spec, UniformCosts(), 400);

  CHECK(late.blocks - early.blocks == 100);
  CHECK(*late.last_block_s - *early.last_block_s == 100 * 20);
}

TEST_CASE("the bytes of a rank follow from its own list") {
  for (const ContextRule rule : {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal})
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{3, 1}, Mesh{2, 2}}) {
      const PlanSpec spec = plan_spec(mesh, rule, 8, 2, 9);
      const CountableCosts costs;
      const Simulation all = simulate(spec, costs);
      for (int64_t rank = 0; rank < mesh.ranks(); ++rank)
        CHECK(peak_bytes(spec, costs, {rank}) == all.ranks[static_cast<size_t>(rank)].peak_bytes);
    }
}

namespace {

// A visit takes a slot, and 3 slots of decoding are left behind for each block.
class Decoding : public UniformCosts {
 public:
  explicit Decoding(double spare) : spare_(spare) {}
  double background_seconds(RankId, const Instruction& i) const override {
    return std::holds_alternative<Emit>(i) ? 3 : 0;
  }
  double spare_speed() const override { return spare_; }

 private:
  double spare_;
};

}  // namespace

TEST_CASE("background work goes on while its rank waits, and after the end") {
  class TwoRanks : public Decoding {
   public:
    using Decoding::Decoding;
    double seconds(RankId rank, const Instruction& i) const override {
      return std::holds_alternative<Forward>(i) ? 4.0 - 2 * static_cast<double>(rank.value) : 0;
    }
  };
  for (const double spare : {1.0, 2.0}) {
    const TwoRanks costs(spare);
    Simulator simulator({2, 1}, costs);
    for (const char* b : {"0", "1"}) {
      const std::string visit = std::string("b") + b + " s0";
      const List first{parse_instruction("forward " + visit),
                       parse_instruction("send tokens " + visit + " to r1")};
      const List last{parse_instruction("recv tokens " + visit + " from r0"),
                      parse_instruction("forward " + visit),
                      parse_instruction(std::string("emit b") + b)};
      simulator.add({0}, first);
      simulator.add({1}, last);
    }
    simulator.play();
    const Simulation out = simulator.result();

    // Rank 0 forwards 0-4, 4-8; rank 1 waits 0-4, works 4-6, waits 6-8 (2 of 3 decoded), 8-10.
    CHECK(out.instructions_s == 10);
    CHECK(out.makespan_s == 10 + 4 / spare);
    CHECK(out.ranks[1].wait_s == 6);
    CHECK(out.ranks[1].busy_s == 4 + 6);
    CHECK(out.ranks[1].background_s == 6);
    CHECK(out.ranks[0].busy_s == 8);
  }
}

// Ten blocks on one rank that never waits.
TEST_CASE("background work is left for the end, or holds the rank of an endless video up") {
  const Decoding costs(1);
  PlanSpec spec = plan_spec({1, 1}, ContextRule::isolated, 1, 1, 10);

  const Simulation bounded = simulate(spec, costs);
  spec.layout.total_frames.reset();
  const Simulation endless = simulate(spec, costs, 10);

  CHECK(bounded.instructions_s == 10);
  CHECK(bounded.makespan_s == 10 + 10 * 3);
  CHECK(endless.instructions_s == 10 + 2 * 3);  // the queue takes eight
  CHECK(endless.makespan_s == 10 + 10 * 3);
  for (const Simulation& out : {bounded, endless}) CHECK(out.ranks[0].busy_s == 40);
}
