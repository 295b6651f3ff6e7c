// The block queue's oracle: finished latents and versions under the four context rules, through the
// plan and the executor, on one rank and on several.
#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "tests/golden/golden_case.h"
#include "tests/support/queue_run.h"

namespace longtake::testing {

namespace {

ContextRule rule_of(const std::string& name) {
  if (name == "dualparal") return ContextRule::dualparal;
  if (name == "aligned") return ContextRule::aligned;
  if (name == "causal") return ContextRule::causal;
  REQUIRE(name == "isolated");
  return ContextRule::isolated;
}

// One case of the oracle: what stays the same for every mesh.
struct QueueCase {
  ModelFolder folder;
  PromptSet prompts;
  QueueRun run;

  QueueCase(const GoldenCase& golden, const nlohmann::json& of) {
    const std::string name = of.at("set");
    const nlohmann::json set = golden.json().at("sets").at(name);
    folder.transformer = golden.folder() / "transformer";
    folder.transformer_config = read_transformer_config(folder.transformer);
    for (int i = 0; i < set.at("prompts").get<int>(); ++i)
      prompts.positive.push_back(golden.input(name + ".text." + std::to_string(i)));
    prompts.negative = golden.input(name + ".uncond");
    int64_t frames = 0;
    for (const auto& n : set.at("frames")) frames += n.get<int64_t>();
    run.folder = &folder;
    run.prompts = &prompts;
    run.guidance.scale = set.at("guidance");
    run.shift = golden.json().at("shift");
    run.plan.layout = {set.at("frames_per_block"), set.at("context_frames"), frames};
    run.plan.steps = set.at("steps");
    run.plan.stagger = of.at("stagger");
    run.plan.rule = rule_of(of.at("rule"));
    run.height = set.at("height");
    run.width = set.at("width");
    run.noise = [&golden, name](BlockId block, Tensor noise) {
      const OwnedTensor given = golden.input(name + ".noise." + std::to_string(block.value));
      LT_CHECK(given.shape() == noise.shape, "noise of block {}: {}", block.value,
               noise.shape.text());
      std::memcpy(noise.data, given.as<float>(), noise.bytes());
    };
    run.prompt_of = [set](BlockId block) {
      return set.at("prompt_of_block").at(static_cast<size_t>(block.value)).get<int64_t>();
    };
  }

  std::map<int64_t, OwnedTensor> on(Mesh mesh) {
    run.plan.mesh = mesh;
    return run_queue(run);
  }
};

}  // namespace

void run_block_queue_case(GoldenCase& golden) {
  const double limit = golden.json().at("tolerance").at("max_abs");
  for (const auto& run : golden.json().at("cases")) {
    const std::string name = run.at("name");
    CAPTURE(name);
    QueueCase queue(golden, run);
    const auto one = queue.on({1, 1});
    CHECK(same_bits(one, queue.on({3, 1})));
    CHECK(same_bits(one, queue.on({2, 2})));
    REQUIRE(static_cast<int64_t>(one.size()) == *queue.run.plan.layout.blocks());
    for (const auto& [block, latents] : one) {
      const std::string array = name + ".block" + std::to_string(block);
      golden.compare(array, latents, golden.expected(array), limit);
    }
  }
}

}  // namespace longtake::testing
