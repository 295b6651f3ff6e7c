// Every way to change a small plan by one thing is refused by `check`. What may survive is only an
// order of one rank's instructions in which all pairs that touch the same thing keep their order:
// that is the same program.
#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <map>

#include "parallel/plan/check.h"
#include "tests/plan/plan_specs.h"

using namespace longtake;
using longtake::testing::describe;
using longtake::testing::go_on;
using longtake::testing::plan_spec;

namespace {

using List = std::vector<Instruction>;
using Plan = std::vector<List>;

// ---- the same program ----

enum class Thing {
  tokens,
  velocity,
  other_velocity,
  channel,
  latent,
  features,
  solver,
  entry,
  exit
};
using Resource = std::array<int64_t, 4>;  // Thing and what identifies it
struct Touch {
  Resource resource;
  bool writes;
};

Resource thing(Thing t, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
  return {static_cast<int64_t>(t), a, b, c};
}
Resource thing(const Latent& l) {
  return thing(Thing::latent, l.block.value, l.version.value);
}
Resource thing(const Features& f) {
  return thing(Thing::features, static_cast<int64_t>(f.edge), f.block.value, f.step.value);
}

struct Touches {
  int64_t steps;
  using Out = std::vector<Touch>;

  Out operator()(const Admit& i) const {
    return {{thing(Latent{i.block, {0}}), true},
            {thing(Thing::solver, i.block.value), true},
            {thing(Thing::entry), true}};
  }
  Out operator()(const Recall& i) const {
    return {{thing(i.latent), true}, {thing(Thing::entry), true}};
  }
  Out operator()(const Embed& i) const {
    Out out{{thing(Thing::tokens), true}, {thing(Latent{i.block, i.step}), false}};
    if (i.prefix) out.push_back({thing(*i.prefix), false});
    return out;
  }
  Out operator()(const Recv& i) const {
    const Resource to = i.payload == Payload::tokens   ? thing(Thing::tokens)
                        : i.payload == Payload::latent ? thing(Latent{i.block, i.step})
                                                       : thing(Thing::other_velocity);
    return {{to, true}, {thing(Thing::channel, 0, static_cast<int64_t>(i.payload)), true}};
  }
  Out operator()(const Send& i) const {
    const bool latent = i.payload == Payload::latent;
    const Resource from = latent                           ? thing(Latent{i.block, i.step})
                          : i.payload == Payload::velocity ? thing(Thing::velocity)
                                                           : thing(Thing::tokens);
    return {{from, !latent}, {thing(Thing::channel, 1, static_cast<int64_t>(i.payload)), true}};
  }
  Out operator()(const Forward& i) const {
    Out out{{thing(Thing::tokens), true}};
    if (i.prefix) out.push_back({thing(*i.prefix), false});
    if (i.suffix) out.push_back({thing(*i.suffix), false});
    if (i.publish_head) out.push_back({thing(Features{Edge::head, i.block, i.step}), true});
    if (i.publish_tail) out.push_back({thing(Features{Edge::tail, i.block, i.step}), true});
    return out;
  }
  Out operator()(const Head&) const {
    return {{thing(Thing::tokens), true}, {thing(Thing::velocity), true}};
  }
  Out operator()(const SolverStep& i) const {
    return {{thing(Thing::velocity), true},
            {thing(Thing::other_velocity), true},
            {thing(Thing::solver, i.block.value), true},
            {thing(Latent{i.block, i.step}), false},
            {thing(Latent{i.block, {i.step.value + 1}}), true}};
  }
  Out operator()(const Emit& i) const {
    return {{thing(Latent{i.block, {steps}}), false}, {thing(Thing::exit), true}};
  }
  Out operator()(const ReleaseFeatures& i) const { return {{thing(i.features), true}}; }
  Out operator()(const ReleaseLatent& i) const { return {{thing(i.latent), true}}; }
  Out operator()(const ReleaseSolver& i) const {
    return {{thing(Thing::solver, i.block.value), true}};
  }
};

// Per thing, who touches it in order; neighbouring readers in any order.
std::map<Resource, std::vector<std::vector<std::string>>> history(const List& list, int64_t steps) {
  std::map<Resource, std::vector<std::vector<std::string>>> out;
  std::map<Resource, bool> reading;
  for (const Instruction& i : list)
    for (const Touch& touch : std::visit(Touches{steps}, i)) {
      auto& past = out[touch.resource];
      if (touch.writes || !reading[touch.resource]) past.emplace_back();
      reading[touch.resource] = !touch.writes;
      past.back().push_back(to_text(i));
      std::sort(past.back().begin(), past.back().end());
    }
  return out;
}

// ---- mutations ----

struct Survivors {
  int64_t tried = 0, refused = 0, same_program = 0;
  std::vector<std::string> wrong;
};

void try_list(const PlanSpec& spec, const Plan& plan, size_t rank, const List& list,
              const std::string& what, Survivors& out) {
  if (list == plan[rank]) return;
  ++out.tried;
  Plan mutated = plan;
  mutated[rank] = list;
  try {
    check(spec, mutated);
  } catch (const Error&) {
    ++out.refused;
    return;
  }
  if (list.size() == plan[rank].size() &&
      history(list, spec.steps) == history(plan[rank], spec.steps))
    ++out.same_program;
  else
    out.wrong.push_back(what);
}

using Changes = std::vector<Instruction>;

template <class Op, class Field>
void shift(const Op& op, Field field, Changes& out) {
  for (const int64_t by : {-1, 1, 1000}) {
    Op changed = op;
    std::invoke(field, changed).value += by;
    out.emplace_back(changed);
  }
}

template <class Op>
void other_payloads(const Op& op, Changes& out) {
  for (const Payload payload : {Payload::tokens, Payload::latent, Payload::velocity}) {
    Op changed = op;
    changed.payload = payload;
    out.emplace_back(changed);
  }
}

template <class Item, class Op>
void vary_optional(const Op& op, std::optional<Item> Op::*field, const std::vector<Item>& items,
                   Changes& out) {
  Op without = op;
  (without.*field).reset();
  out.emplace_back(without);
  for (const Item& item : items) {
    Op changed = op;
    changed.*field = item;
    out.emplace_back(changed);
  }
}

std::vector<Features> features_near(BlockId block, StepId step) {
  std::vector<Features> out;
  for (const Edge edge : {Edge::head, Edge::tail})
    for (int64_t b = -1; b <= 1; ++b)
      for (int64_t s = -2; s <= 2; ++s) out.push_back({edge, {block.value + b}, {step.value + s}});
  return out;
}

std::vector<Latent> latents_near(BlockId block, StepId step) {
  std::vector<Latent> out;
  for (int64_t b = -2; b <= 1; ++b)
    for (int64_t v = -1; v <= 3; ++v) out.push_back({{block.value + b}, {step.value + v}});
  return out;
}

// Every other value near the right one of every field.
struct Fields {
  Changes& out;

  template <class Op>
  void visit(const Op& op) const {
    shift(op, &Op::block, out);
    shift(op, &Op::step, out);
  }
  void operator()(const Admit& i) const { shift(i, &Admit::block, out); }
  void operator()(const Recall& i) const {
    for (const Latent& l : latents_near(i.latent.block, i.latent.version))
      out.emplace_back(Recall{l});
  }
  void operator()(const Embed& i) const {
    visit(i);
    vary_optional(i, &Embed::prefix, latents_near(i.block, i.step), out);
  }
  void operator()(const Recv& i) const {
    visit(i);
    shift(i, &Recv::from, out);
    other_payloads(i, out);
  }
  void operator()(const Send& i) const {
    visit(i);
    shift(i, &Send::to, out);
    other_payloads(i, out);
  }
  void operator()(const Forward& i) const {
    visit(i);
    vary_optional(i, &Forward::prefix, features_near(i.block, i.step), out);
    vary_optional(i, &Forward::suffix, features_near(i.block, i.step), out);
    for (bool Forward::*flag :
         {&Forward::prefix_tokens, &Forward::publish_head, &Forward::publish_tail}) {
      Forward changed = i;
      changed.*flag = !(i.*flag);
      out.emplace_back(changed);
    }
  }
  void operator()(const Head& i) const { visit(i); }
  void operator()(const SolverStep& i) const { visit(i); }
  void operator()(const Emit& i) const { shift(i, &Emit::block, out); }
  void operator()(const ReleaseFeatures& i) const {
    for (const Features& f : features_near(i.features.block, i.features.step))
      out.emplace_back(ReleaseFeatures{f});
  }
  void operator()(const ReleaseLatent& i) const {
    for (const Latent& l : latents_near(i.latent.block, i.latent.version))
      out.emplace_back(ReleaseLatent{l});
  }
  void operator()(const ReleaseSolver& i) const { shift(i, &ReleaseSolver::block, out); }
};

void mutate(const PlanSpec& spec, const Plan& plan, size_t rank, size_t at, Survivors& out) {
  const List& list = plan[rank];
  const std::string where = fmt::format("rank {}, {} `{}`", rank, at, to_text(list[at]));
  const auto index = static_cast<std::ptrdiff_t>(at);

  List dropped = list;
  dropped.erase(dropped.begin() + index);
  try_list(spec, plan, rank, dropped, "drop " + where, out);
  for (size_t to = 0; to <= list.size(); ++to) {
    const auto target = static_cast<std::ptrdiff_t>(to);
    List duplicated = list;
    duplicated.insert(duplicated.begin() + target, list[at]);
    try_list(spec, plan, rank, duplicated, fmt::format("duplicate to {} {}", to, where), out);
    if (to == list.size()) break;
    List swapped = list;
    std::swap(swapped[at], swapped[to]);
    if (to > at)
      try_list(spec, plan, rank, swapped, fmt::format("swap with {} {}", to, where), out);
    List moved = dropped;
    moved.insert(moved.begin() + target, list[at]);
    try_list(spec, plan, rank, moved, fmt::format("move to {} {}", to, where), out);
  }
  Changes changes;
  std::visit(Fields{changes}, list[at]);
  for (const Instruction& change : changes) {
    List changed = list;
    changed[at] = change;
    try_list(spec, plan, rank, changed, fmt::format("{} -> `{}`", where, to_text(change)), out);
  }
}

// An instruction that goes to another rank instead.
void move_to_other_ranks(const PlanSpec& spec, const Plan& plan, size_t rank, size_t at,
                         Survivors& out) {
  for (size_t other = 0; other < plan.size(); ++other) {
    if (other == rank) continue;
    Plan moved = plan;
    moved[rank].erase(moved[rank].begin() + static_cast<std::ptrdiff_t>(at));
    List list = plan[other];
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(std::min(at, list.size())),
                plan[rank][at]);
    try_list(spec, moved, other, list, fmt::format("rank {}, {} to rank {}", rank, at, other), out);
  }
}

}  // namespace

TEST_CASE("every mutation of a plan is refused") {
  Survivors all;
  for (const ContextRule rule :
       {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal, ContextRule::isolated})
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{1, 2}, Mesh{2, 2}, Mesh{3, 1}})
      for (const int64_t stagger : {1, 2})
        for (const int64_t finished : {0, stagger == 1 ? 2 : 0}) {
          PlanSpec spec = plan_spec(mesh, rule, 3, stagger, 3);
          if (finished > 0) go_on(spec, finished, 4);
          CAPTURE(describe(spec));
          const Plan plan = make_plan(spec);
          Survivors out;

          for (size_t rank = 0; rank < plan.size(); ++rank)
            for (size_t at = 0; at < plan[rank].size(); ++at) {
              mutate(spec, plan, rank, at, out);
              move_to_other_ranks(spec, plan, rank, at, out);
            }

          for (const std::string& what : out.wrong) FAIL_CHECK("survived: " << what);
          all.tried += out.tried;
          all.refused += out.refused;
          all.same_program += out.same_program;
        }
  MESSAGE(all.tried << " mutations, " << all.refused << " refused, " << all.same_program
                    << " are the same program");
  CHECK(all.tried == all.refused + all.same_program);
  CHECK(all.refused > 100000);
}
