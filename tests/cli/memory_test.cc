// The bound by which sizes are refused: a run really needs so much, so nothing that fits is
// refused.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "launch/memory_need.h"
#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"

namespace longtake {

using namespace testing;

namespace {

// Peak memory in bytes of one frame in one step; with a given profile nothing is measured first,
// which takes memory too.
uint64_t peak_bytes(const std::string& size, const std::string& precision) {
  const DemoModel model;
  const Outcome outcome = model.generate({"--size", size, "--num-frames", "1", "--precision",
                                          precision, "--latents-only", "--hardware", "h200"});
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto report = nlohmann::json::parse(contents(model.run() / "report.json"));
  return report.at("per_rank").at(0).at("peak_bytes");
}

uint64_t bound(int64_t height, int64_t width, DType compute) {
  const TransformerConfig config = read_model_folder(demo_configs() / "model").transformer_config;
  MemoryNeed need;
  need.transformer = &config;
  need.plan.layout = {8, 4, 1};
  need.plan.guided = true;
  need.units = {0, 3 * config.layers};
  need.compute = compute;
  need.height = height, need.width = width;
  return least_bytes(need);
}

}  // namespace

TEST_CASE("a larger video takes at least the memory that the bound says, and not much more") {
  for (const DType compute : {DType::f32, DType::bf16}) {
    CAPTURE(name(compute));
    const uint64_t less = bound(8, 8, compute), more = bound(96, 96, compute);

    const auto measured = static_cast<double>(peak_bytes("768x768", std::string(name(compute)))) -
                          static_cast<double>(peak_bytes("64x64", std::string(name(compute))));

    // 2,304 tokens, f32: two branches of 192 columns; five of 192 and one of 640 in the layer.
    if (compute == DType::f32) CHECK(more == 2304 * 4 * (2 * 192 + 5 * 192 + 640));
    CHECK(static_cast<double>(more - less) <= measured);
#if !defined(__SANITIZE_ADDRESS__)  // it keeps what was freed
    CHECK(measured <= 3 * static_cast<double>(more - less));
#endif
  }
}

TEST_CASE("the bound counts only what a stage holds") {
  const TransformerConfig config{.heads = 2, .head_dim = 8, .ffn_dim = 100, .layers = 4};
  MemoryNeed need;
  need.transformer = &config;
  need.plan.layout = {8, 4, 100};
  need.plan.guided = false;
  need.compute = DType::bf16;
  need.height = 4, need.width = 6;
  const auto bytes = [&](int64_t begin, int64_t end) {
    need.units = {begin, end};
    return least_bytes(need) / (8 * 2 * 3);  // per token
  };

  CHECK(bytes(0, 1) == 16 * 4 + 2 * 5 * 16);          // self-attention
  CHECK(bytes(4, 5) == 16 * 4 + 2 * 3 * 16);          // cross-attention
  CHECK(bytes(2, 3) == 16 * 4 + 2 * (16 + 100));      // feed-forward
  CHECK(bytes(5, 7) == 16 * 4 + 2 * (5 * 16 + 100));  // feed-forward, self-attention
  CHECK(bytes(3, 3) == 16 * 4);                       // nothing but the tokens
  CHECK(machine_bytes() > 100'000'000);
}

}  // namespace longtake
