// Order, prefix and suffix of every visit against the reference that made the golden latents.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "parallel/plan/plan.h"
#include "tests/support/golden_file.h"

using namespace longtake;
using nlohmann::json;

namespace {

json read(const char* file) {
  std::ifstream in(longtake::testing::golden_folder() / "block_queue" / file);
  REQUIRE(in.good());
  return json::parse(in);
}

PlanSpec spec_of(const json& c, const json& set, Mesh mesh) {
  PlanSpec spec;
  spec.mesh = mesh;
  int64_t frames = 0;
  for (const json& f : set.at("frames")) frames += f.get<int64_t>();
  spec.layout = {set.at("frames_per_block"), set.at("context_frames"), frames};
  spec.steps = set.at("steps");
  spec.stagger = c.at("stagger");
  spec.rule = parse_context_rule(c.at("rule")).value();
  return spec;
}

json step_or_null(const std::optional<Features>& f) {
  return f ? json(f->step.value) : json(nullptr);
}

// The visits of one rank in the form of visits.json; the rank is both first and last or neither.
json visits_of(const PlanSpec& spec, RankId rank) {
  json out = json::array();
  std::vector<Instruction> list;
  for (PlanMaker maker(spec); !maker.done(); maker.next()) {
    list.clear();
    maker.append(rank, list);
    json latent_prefix;
    for (const Instruction& i : list) {
      if (const auto* e = std::get_if<Embed>(&i)) {
        latent_prefix = nullptr;
        if (!e->prefix) continue;
        CHECK(e->prefix->block.value == e->block.value - 1);
        latent_prefix = e->prefix->version.value;
      }
      const auto* f = std::get_if<Forward>(&i);
      if (!f) continue;
      if (f->prefix) {
        CHECK(f->prefix->block.value == f->block.value - 1);
        CHECK(f->prefix->edge == Edge::tail);
      }
      if (f->suffix) {
        CHECK(f->suffix->block.value == f->block.value + 1);
        CHECK(f->suffix->edge == Edge::head);
      }
      CHECK(f->prefix_tokens == (spec.rule == ContextRule::dualparal && f->block.value > 0));
      const json prefix = f->prefix_tokens ? latent_prefix : step_or_null(f->prefix);
      out.push_back(
          {maker.sweep(), f->block.value, f->step.value, prefix, step_or_null(f->suffix)});
    }
  }
  return out;
}

}  // namespace

TEST_CASE("every visit reads what the reference read, in its order") {
  const json cases = read("case.json"), visits = read("visits.json");

  for (const json& c : cases.at("cases")) {
    const std::string name = c.at("name");
    CAPTURE(name);
    const json& set = cases.at("sets").at(c.at("set").get<std::string>());
    const PlanSpec one = spec_of(c, set, {1, 1});
    CHECK(one.layout.blocks() == static_cast<int64_t>(set.at("frames").size()));
    for (size_t b = 0; b < set.at("frames").size(); ++b)
      CHECK(one.layout.frames({static_cast<int64_t>(b)}) == set.at("frames")[b]);

    CHECK(visits_of(one, {0}) == visits.at(name));
    CHECK(visits_of(spec_of(c, set, {1, 2}), {1}) == visits.at(name));
    for (int64_t rank : {0, 3}) {  // the first stages of a deeper mesh embed
      CHECK(visits_of(spec_of(c, set, {3, 2}), {rank}) == visits.at(name));
    }
  }
}
