// The cost model against numbers worked out by hand and wan.md 1.
#include "parallel/cost/cost_model.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/plan/plan_specs.h"

using namespace longtake;
using longtake::testing::plan_spec;

namespace {

ModelShape wan_1_3b() {
  ModelShape m;
  m.layers = 30, m.dim = 1536, m.heads = 12, m.ffn = 8960, m.text_rows = 512;
  m.latent_rows = 60, m.latent_columns = 104;
  return m;
}

ModelShape wan_14b() {
  ModelShape m = wan_1_3b();
  m.layers = 40, m.dim = 5120, m.heads = 40, m.ffn = 13824;
  return m;
}

// d 2, f 3, two channels of 2 x 2: one token a frame.
ModelShape tiny() {
  ModelShape m;
  m.layers = 2, m.dim = 2, m.heads = 1, m.ffn = 3, m.text_rows = 5, m.text_dim = 7, m.freq_dim = 4;
  m.in_channels = m.out_channels = 2;
  m.latent_rows = m.latent_columns = 2;
  m.decode_flops_per_frame = 600;
  return m;
}

// Every rate differs; overhead 1,000 s shows how many operators there are.
HardwareProfile profile() {
  HardwareProfile h;
  h.linear_flops = 2, h.attention_flops = 4, h.conv_flops = 100;
  h.memory_bandwidth = 16, h.link_bandwidth = 8, h.link_latency_s = 0.25, h.operator_s = 1000;
  return h;
}

}  // namespace

// 832 x 480 x 81: 32,760 tokens; 1280 x 720 x 81: 75,600. wan.md counts keys and values of the text
// in each forward; here they are made once per prompt. Its numbers are rounded to 1.
TEST_CASE("operations of a forward as in wan.md") {
  const VisitShape small{32760, 32760}, large{75600, 75600};
  const auto tera = [](const ModelShape& m, const VisitShape& v) {
    const auto d = static_cast<double>(m.dim);
    const double text = static_cast<double>(m.layers * m.text_rows) * 4 * d * d;
    return (forward_flops(m, v).total() + text) / 1e12;
  };
  const auto tera_attention = [](const ModelShape& m, const VisitShape& v) {
    return forward_flops(m, v).attention / 1e12;
  };

  CHECK(wan_1_3b().tokens_per_frame() * 21 == 32760);
  CHECK(std::round(tera(wan_1_3b(), small)) == 283);
  CHECK(std::round(tera_attention(wan_1_3b(), small)) == 201);
  CHECK(std::round(tera(wan_14b(), small)) == 1678);
  CHECK(std::round(tera(wan_14b(), large)) == 6523);
  CHECK(std::round(tera_attention(wan_14b(), large)) == 4714);
}

TEST_CASE("parameters as in wan.md") {
  const auto all = [](const ModelShape& m) {
    int64_t out = end_parameters(m);
    for (int64_t unit = 0; unit < 3 * m.layers; ++unit) out += parameters(sub_layer(unit), m);
    return out;
  };
  CHECK(all(wan_1_3b()) == 1418996800);
  CHECK(all(wan_14b()) == 14288491584);
}

// n 3, k 11, d 2, f 3, t 5.
TEST_CASE("operations of each sub-layer by hand") {
  const ModelShape m = tiny();
  const VisitShape v{3, 11};

  CHECK(flops(SubLayer::self_attention, m, v).linear == 96);
  CHECK(flops(SubLayer::self_attention, m, v).attention == 264);
  CHECK(flops(SubLayer::cross_attention, m, v).linear == 48);
  CHECK(flops(SubLayer::cross_attention, m, v).attention == 120);
  CHECK(flops(SubLayer::feed_forward, m, v).linear == 72);
  CHECK(flops(SubLayer::feed_forward, m, v).attention == 0);
}

// Elementwise bytes: 6 n d = 6 channels of 24, 20 and 16 bytes; 16 bytes/s.
TEST_CASE("seconds of each sub-layer by hand") {
  const ModelShape m = tiny();
  const VisitShape v{3, 11};
  HardwareProfile h = profile();

  CHECK(seconds(SubLayer::self_attention, m, v, h) == 48 + 66 + 9 + 9000);
  CHECK(seconds(SubLayer::cross_attention, m, v, h) == 24 + 30 + 7.5 + 6000);
  CHECK(seconds(SubLayer::feed_forward, m, v, h) == 36 + 6 + 4000);
  CHECK(unit_seconds(m, v, h)[5] == 4042);

  // Endless arithmetic: weights of 32, 16, 24 bytes and keys of 88, 40 remain.
  h.linear_flops = h.attention_flops = 1e30;
  CHECK(seconds(SubLayer::self_attention, m, v, h) == 2 + 5.5 + 9 + 9000);
  CHECK(seconds(SubLayer::cross_attention, m, v, h) == 1 + 2.5 + 7.5 + 6000);
  CHECK(seconds(SubLayer::feed_forward, m, v, h) == 1.5 + 6 + 4000);
}

// Blocks of 3, 2, 2 frames (B 2, c 1), a token each; stages of self, cross, ffn, self | cross, ffn.
TEST_CASE("instructions by hand") {
  const PlanSpec spec = plan_spec({2, 1}, ContextRule::dualparal, 4, 1, 3);
  const ModelShape m = tiny();
  const HardwareProfile h = profile();
  const CostModel costs(spec, m, h, {UnitRange{0, 4}, UnitRange{4, 6}});
  const auto cost = [&](int64_t rank, const char* line) {
    return costs.seconds({rank}, parse_instruction(line));
  };
  const Send tokens{Payload::tokens, {1}, {0}, {1}}, latent{Payload::latent, {1}, {0}, {0}};

  const auto forward =
      std::get<Forward>(parse_instruction("forward b1 s0 prefix tokens suffix head(b2 s0)"));
  CHECK(costs.visit(forward).tokens == 3);
  CHECK(costs.visit(forward).keys == 4);
  const auto part = [&](SubLayer p) { return seconds(p, m, {3, 4}, h); };
  CHECK(costs.seconds({0}, forward) ==
        doctest::Approx(2 * (2 * part(SubLayer::self_attention) + part(SubLayer::cross_attention) +
                             part(SubLayer::feed_forward))));
  CHECK(costs.seconds({1}, forward) ==
        doctest::Approx(2 * (part(SubLayer::cross_attention) + part(SubLayer::feed_forward))));

  // 3 tokens, 2 channels from or to 8 of a patch: 96 operations, 120 bytes.
  CHECK(cost(0, "embed b1 s0 prefix b0 v1") == 48 + 1000);
  CHECK(cost(1, "head b1 s0") == 2 * 1048);
  // f32, two branches, 3 tokens of 2 channels; 2 frames of 2 x 2 x 2.
  CHECK(costs.message_bytes({0}, tokens) == 48);
  CHECK(costs.message_bytes({1}, latent) == 64);
  CHECK(costs.link_seconds({0}, tokens) == 6.25);
  CHECK(cost(0, "send tokens b1 s0 to r1") == 6);
  CHECK(cost(0, "recv latent b1 v1 from r1") == 8);
  CHECK(cost(0, "admit b1") == 8);
  CHECK(cost(1, "solve b1 s0") == 48 + 1000);
  CHECK(cost(1, "emit b0") == 0);
  CHECK(costs.background_seconds({1}, parse_instruction("emit b0")) == 18);
  CHECK(cost(1, "release latent b1 v1") == 0);
}

// Blocks of 7, 4 and 1 frames, context 3.
TEST_CASE("the first block has no prefix, a short last block is a short suffix") {
  PlanSpec spec = plan_spec({1, 1}, ContextRule::dualparal, 4, 1, {});
  spec.layout = {4, 3, 12};
  const CostModel costs(spec, tiny(), profile(), {UnitRange{0, 6}});
  const auto visit = [&](const char* line) {
    return costs.visit(std::get<Forward>(parse_instruction(line)));
  };

  CHECK(visit("forward b0 s1 suffix head(b1 s0)").tokens == 7);
  CHECK(visit("forward b0 s1 suffix head(b1 s0)").keys == 7 + 3);
  CHECK(visit("forward b1 s1 prefix tokens suffix head(b2 s0)").tokens == 4 + 3);
  CHECK(visit("forward b1 s1 prefix tokens suffix head(b2 s0)").keys == 4 + 3 + 1);
}

TEST_CASE("bytes by hand") {
  const PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 4, 1, 3);
  const ModelShape m = tiny();
  const CostModel costs(spec, m, profile(), {UnitRange{0, 4}, UnitRange{4, 6}});

  CHECK(costs.latent_bytes({0}, {{0}, {0}}) == 96);
  CHECK(costs.solver_bytes({1}, {1}) == 4 * 64);
  // 2 self-attentions x 2 branches x keys and values of 1 row of 2 channels in bf16; none.
  CHECK(costs.features_bytes({0}, {Edge::tail, {1}, {0}}) == 32);
  CHECK(costs.features_bytes({1}, {Edge::tail, {1}, {0}}) == 0);
  // self 40, cross 32, ffn 17; ends: 18 + 10 + 6 + 36 + 16 + 6 + 24 + 4.
  CHECK(costs.weight_bytes({0}) == 2 * (40 + 32 + 17 + 40 + 120));
  CHECK(costs.weight_bytes({1}) == 2 * (32 + 17 + 120));
  // 3 rows: two f32 streams of 2; bf16: 5 x 2 + 3; and 2 rows of 2.
  CHECK(costs.workspace_bytes() == 48 + 2 * (39 + 4));
  CHECK(costs.fixed_bytes({1}) ==
        costs.weight_bytes({1}) + costs.workspace_bytes() + costs.table_bytes({1}));
  // Text keys 80, modulations 224, four windows of 4 frames 128, four latents 384, packed 32.
  CHECK(costs.table_bytes({1}) == 848);
  ModelShape video = m;
  video.decode_bytes = 5000;
  const CostModel decodes(spec, video, profile(), {UnitRange{0, 4}, UnitRange{4, 6}});
  CHECK(decodes.fixed_bytes({0}) == costs.fixed_bytes({0}));
  CHECK(decodes.fixed_bytes({1}) == costs.fixed_bytes({1}) + 5000);
}

TEST_CASE("one branch costs half, and none has a context that its rule does not read") {
  const ModelShape m = tiny();
  const auto forward = parse_instruction("forward b1 s0");
  const PlanSpec both = plan_spec({1, 1}, ContextRule::isolated, 4, 1, 3);
  const PlanSpec split = plan_spec({1, 2}, ContextRule::isolated, 4, 1, 3);

  CHECK(CostModel(both, m, profile(), {UnitRange{0, 6}}).seconds({0}, forward) ==
        2 * CostModel(split, m, profile(), {UnitRange{0, 6}}).seconds({1}, forward));
  const auto keys = [&](ContextRule rule) {
    return full_visit(plan_spec({1, 1}, rule, 4, 1, 3), m).keys;
  };
  CHECK(keys(ContextRule::dualparal) == 4);
  CHECK(full_visit(plan_spec({1, 1}, ContextRule::dualparal, 4, 1, 3), m).tokens == 3);
  CHECK(keys(ContextRule::aligned) == 4);
  CHECK(keys(ContextRule::causal) == 3);
  CHECK(keys(ContextRule::isolated) == 2);
}

TEST_CASE("a profile without rates and stages that do not match are refused") {
  const PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 4, 1, 3);
  CHECK_THROWS_AS(CostModel(spec, tiny(), HardwareProfile{}, {UnitRange{0, 3}, UnitRange{3, 6}}),
                  Error);
  CHECK_THROWS_AS(CostModel(spec, tiny(), profile(), {UnitRange{0, 6}}), Error);
}

// One rank never waits: its time is its work, and its peak what it keeps at once.
TEST_CASE("a simulated video takes what its instructions take") {
  PlanSpec spec = plan_spec({1, 1}, ContextRule::aligned, 4, 1, 3);
  const CostModel costs(spec, tiny(), profile(), share_out_units(spec, tiny(), profile()));

  const Simulation one = simulate(spec, costs);

  const auto plans = make_plan(spec);
  double sum = 0;
  for (const Instruction& i : plans[0]) sum += costs.seconds({0}, i);
  CHECK(one.makespan_s == doctest::Approx(sum));
  CHECK(one.idle_share() == doctest::Approx(0));
  CHECK(one.ranks[0].peak_bytes > costs.fixed_bytes({0}));
}

// The last stage also decodes: a slow VAE takes sub-layers from it.
TEST_CASE("decoding makes room on the last stage") {
  PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 4, 1, 3);
  ModelShape m = wan_1_3b();
  HardwareProfile h = profile();
  h.linear_flops = h.attention_flops = h.conv_flops = h.memory_bandwidth = 1e12, h.operator_s = 0;
  const auto without = share_out_units(spec, m, h);
  const double forward = 2 * forward_flops(m, full_visit(spec, m)).total();
  m.decode_flops_per_frame = forward / 2;  // a quarter of a visit, per visit

  const auto with = share_out_units(spec, m, h);

  const auto cut = [](const std::vector<StageUnits>& stages) {
    return (stages[0].conditional.end + stages[0].unconditional.end) / 2.0;
  };
  CHECK(cut(without) == doctest::Approx(45).epsilon(0.05));
  CHECK(cut(with) == doctest::Approx(56.25).epsilon(0.05));
}

TEST_CASE("a branch costs what its own sub-layers cost, weights are held once") {
  const PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 4, 1, 3);
  const auto forward = parse_instruction("forward b1 s0");
  const Features head{Edge::head, {1}, {0}};
  const CostModel even(spec, tiny(), profile(), {UnitRange{0, 3}, UnitRange{3, 6}});
  const CostModel skewed(spec, tiny(), profile(), {{{0, 4}, {0, 3}}, {{4, 6}, {3, 6}}});
  const VisitShape visit = even.visit(std::get<Forward>(forward));

  const double moved = seconds(SubLayer::self_attention, tiny(), visit, profile());

  CHECK(skewed.seconds({0}, forward) == doctest::Approx(even.seconds({0}, forward) + moved));
  CHECK(skewed.seconds({1}, forward) == doctest::Approx(even.seconds({1}, forward) - moved));
  CHECK(skewed.features_bytes({0}, head) == 1.5 * even.features_bytes({0}, head));
  CHECK(skewed.weight_bytes({0}) > even.weight_bytes({0}));
  CHECK(skewed.weight_bytes({1}) == even.weight_bytes({1}));
}
