#include "parallel/plan/held_state.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "tests/plan/plan_specs.h"

using namespace longtake;
using namespace longtake::testing;

namespace {

constexpr ContextRule kRules[] = {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal,
                                  ContextRule::isolated};

template <class T>
std::multiset<T> as_set(const std::vector<T>& list) {
  return {list.begin(), list.end()};
}

std::multiset<std::string> texts(const HeldState& state) {
  std::multiset<std::string> out;
  for (const Latent& l : state.latents) out.insert(to_text(ReleaseLatent{l}));
  for (const Features& f : state.features) out.insert(to_text(ReleaseFeatures{f}));
  for (const BlockId b : state.solvers) out.insert(to_text(ReleaseSolver{b}));
  return out;
}

// What a rank makes of its held state from a sweep on: everything made is released once, and what
// is read exists.
void play_from(const PlanSpec& spec, RankId rank, int64_t begin) {
  std::multiset<std::string> held = texts(held_before(spec, rank, begin));
  const auto make = [&](const Instruction& i) { held.insert(to_text(i)); };
  const auto has = [&](const Instruction& i) { return held.contains(to_text(i)); };
  PlanMaker maker(spec, begin);
  std::vector<Instruction> list;
  for (; !maker.done(); maker.next()) maker.append(rank, list);
  for (const Instruction& i : list) {
    CAPTURE(to_text(i));
    if (const auto* op = std::get_if<Admit>(&i)) {
      make(ReleaseLatent{{op->block, {0}}});
      if (spec.mesh.last(rank)) make(ReleaseSolver{op->block});
    } else if (const auto* recall = std::get_if<Recall>(&i)) {
      make(ReleaseLatent{recall->latent});
    } else if (const auto* recv = std::get_if<Recv>(&i); recv && recv->payload == Payload::latent) {
      make(ReleaseLatent{{recv->block, recv->step}});
    } else if (const auto* embed = std::get_if<Embed>(&i)) {
      CHECK(has(ReleaseLatent{{embed->block, embed->step}}));
      if (embed->prefix) CHECK(has(ReleaseLatent{*embed->prefix}));
    } else if (const auto* op = std::get_if<Forward>(&i)) {
      if (op->prefix) CHECK(has(ReleaseFeatures{*op->prefix}));
      if (op->suffix) CHECK(has(ReleaseFeatures{*op->suffix}));
      if (op->publish_head) make(ReleaseFeatures{{Edge::head, op->block, op->step}});
      if (op->publish_tail) make(ReleaseFeatures{{Edge::tail, op->block, op->step}});
    } else if (const auto* solve = std::get_if<SolverStep>(&i)) {
      CHECK(has(ReleaseSolver{solve->block}));
      make(ReleaseLatent{{solve->block, {solve->step.value + 1}}});
    } else if (std::holds_alternative<ReleaseLatent>(i) ||
               std::holds_alternative<ReleaseFeatures>(i) ||
               std::holds_alternative<ReleaseSolver>(i)) {
      REQUIRE(has(i));
      held.erase(held.find(to_text(i)));
    }
  }
  CHECK(held.empty());
}

}  // namespace

TEST_CASE("a plan that begins at any sweep finds what it needs and leaves nothing") {
  for (const ContextRule rule : kRules)
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}, Mesh{3, 1}, Mesh{2, 2}})
      for (const int64_t stagger : {1, 2, 5})
        for (const int64_t finished : {0, 3}) {
          PlanSpec spec = plan_spec(mesh, rule, 5, stagger, 4);
          if (finished > 0) go_on(spec, finished, 6);
          const int64_t sweeps = *PlanMaker(spec).sweeps();
          for (int64_t begin = 0; begin <= sweeps; ++begin)
            for (int64_t rank = 0; rank < mesh.ranks(); ++rank) {
              CAPTURE(static_cast<int>(rule));
              CAPTURE(mesh.stages);
              CAPTURE(stagger);
              CAPTURE(begin);
              CAPTURE(rank);
              play_from(spec, {rank}, begin);
            }
        }
}

TEST_CASE("no message is expected that nobody sends after the beginning") {
  for (const ContextRule rule : kRules) {
    const PlanSpec spec = plan_spec({3, 1}, rule, 6, 1, 5);
    const int64_t sweeps = *PlanMaker(spec).sweeps();
    for (int64_t begin = 0; begin < sweeps; ++begin) {
      std::vector<std::string> sent, received;
      for (int64_t rank = 0; rank < 3; ++rank) {
        std::vector<Instruction> list;
        for (PlanMaker maker(spec, begin); !maker.done(); maker.next()) maker.append({rank}, list);
        for (const Instruction& i : list) {
          if (const auto* s = std::get_if<Send>(&i))
            sent.push_back(fmt::format("{} b{} {} {}-{}", name(s->payload), s->block.value,
                                       s->step.value, rank, s->to.value));
          if (const auto* r = std::get_if<Recv>(&i))
            received.push_back(fmt::format("{} b{} {} {}-{}", name(r->payload), r->block.value,
                                           r->step.value, r->from.value, rank));
        }
      }
      std::sort(sent.begin(), sent.end());
      std::sort(received.begin(), received.end());
      CAPTURE(begin);
      CHECK(sent == received);
    }
  }
}

TEST_CASE("finished blocks are those that were emitted") {
  for (const int64_t finished : {0, 3})
    for (const int64_t stagger : {1, 2, 7}) {
      PlanSpec spec = plan_spec({1, 1}, ContextRule::aligned, 5, stagger, 4);
      if (finished > 0) go_on(spec, finished, 6);
      int64_t emitted = finished;
      for (PlanMaker maker(spec); !maker.done(); maker.next()) {
        CHECK(finished_before(spec, maker.sweep()) == emitted);
        std::vector<Instruction> list;
        maker.append({0}, list);
        for (const Instruction& i : list) emitted += std::holds_alternative<Emit>(i) ? 1 : 0;
      }
      CHECK(finished_before(spec, *PlanMaker(spec).sweeps()) == emitted);
    }
}
