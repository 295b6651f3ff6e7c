// The block queue's oracle: finished latents and versions under the four context rules, through the
// plan and the executor, on one rank and on several.
#include <doctest/doctest.h>

#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "parallel/comm/loopback_channel.h"
#include "runtime/exec/executor.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

using Blocks = std::map<int64_t, OwnedTensor>;

ContextRule rule_of(const std::string& name) {
  if (name == "dualparal") return ContextRule::dualparal;
  if (name == "aligned") return ContextRule::aligned;
  if (name == "causal") return ContextRule::causal;
  REQUIRE(name == "isolated");
  return ContextRule::isolated;
}

struct QueueCase {
  const GoldenCase& golden;
  nlohmann::json set;
  std::string set_name;
  ModelFolder folder;
  PromptSet prompts;
  PlanSpec plan;
  int64_t height, width;
  double shift;

  QueueCase(const GoldenCase& golden_in, const nlohmann::json& run)
      : golden(golden_in),
        set(golden.json().at("sets").at(run.at("set").get<std::string>())),
        set_name(run.at("set")),
        height(set.at("height")),
        width(set.at("width")),
        shift(golden.json().at("shift")) {
    folder.transformer = golden.folder() / "transformer";
    folder.transformer_config = read_transformer_config(folder.transformer);
    for (int i = 0; i < set.at("prompts").get<int>(); ++i)
      prompts.positive.push_back(golden.input(set_name + ".text." + std::to_string(i)));
    prompts.negative = golden.input(set_name + ".uncond");
    int64_t frames = 0;
    for (const auto& n : set.at("frames")) frames += n.get<int64_t>();
    plan.layout = {set.at("frames_per_block"), set.at("context_frames"), frames};
    plan.steps = set.at("steps");
    plan.stagger = run.at("stagger");
    plan.rule = rule_of(run.at("rule"));
  }

  Blocks run(Mesh mesh);

 private:
  void run_rank(RankId rank, Transport* transport, Blocks& blocks, std::mutex& mutex);
};

void QueueCase::run_rank(RankId rank, Transport* transport, Blocks& blocks, std::mutex& mutex) {
  ThreadPool pool(1);
  const UniPc solver(plan.steps, shift);
  const int64_t units = 3 * folder.transformer_config.layers, n = plan.mesh.stages;
  const int64_t stage = plan.mesh.stage(rank).value;
  StageModel model(folder, {set.at("guidance"), {}, {}}, prompts,
                   {{units * stage / n, units * (stage + 1) / n},
                    DType::f32,
                    solver.schedule().timesteps,
                    false},
                   StreamRef(pool));
  ExecutorSpec spec{plan, rank, folder.transformer_config.in_channels, height, width};
  ExecutorParts parts;
  parts.model = &model;
  parts.solver = &solver;
  parts.transport = transport;
  parts.noise = [&](BlockId block, Tensor noise) {
    const OwnedTensor given = golden.input(set_name + ".noise." + std::to_string(block.value));
    REQUIRE(given.shape() == noise.shape);
    std::memcpy(noise.data, given.as<float>(), noise.bytes());
  };
  parts.prompt_of = [&](BlockId block) {
    return set.at("prompt_of_block").at(static_cast<size_t>(block.value)).get<int64_t>();
  };
  parts.emit = [&](BlockId block, ConstTensor latents) {
    const std::lock_guard lock(mutex);
    OwnedTensor copy(DType::f32, latents.shape);
    std::memcpy(copy.as<float>(), latents.data, latents.bytes());
    blocks.emplace(block.value, std::move(copy));
  };
  Executor(spec, parts, StreamRef(pool)).run();
}

Blocks QueueCase::run(Mesh mesh) {
  plan.mesh = mesh;
  LoopbackJob job(static_cast<int>(mesh.ranks()), {std::chrono::seconds(60)});
  Blocks blocks;
  std::mutex mutex;
  std::exception_ptr error;
  std::vector<std::thread> ranks;
  for (int r = 0; r < mesh.ranks(); ++r)
    ranks.emplace_back([&, r] {
      try {
        const auto transport = job.transport(r);
        run_rank({r}, transport.get(), blocks, mutex);
      } catch (const std::exception& e) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        job.abort(e.what());
      }
    });
  for (std::thread& rank : ranks) rank.join();
  if (error) std::rethrow_exception(error);
  return blocks;
}

}  // namespace

void run_block_queue_case(GoldenCase& golden) {
  const double limit = golden.json().at("tolerance").at("max_abs");
  for (const auto& run : golden.json().at("cases")) {
    const std::string name = run.at("name");
    QueueCase queue(golden, run);
    const Blocks one = queue.run({1, 1});
    for (const Mesh mesh : {Mesh{3, 1}, Mesh{2, 2}}) {
      const Blocks several = queue.run(mesh);
      REQUIRE(several.size() == one.size());
      for (const auto& [block, latents] : one) {
        CAPTURE(name);
        CAPTURE(block);
        CHECK(std::memcmp(latents.as<float>(), several.at(block).as<float>(), latents.bytes()) ==
              0);
      }
    }
    REQUIRE(static_cast<int64_t>(one.size()) == *queue.plan.layout.blocks());
    for (const auto& [block, latents] : one) {
      const std::string array = name + ".block" + std::to_string(block);
      golden.compare(array, latents, golden.expected(array), limit);
    }
  }
}

}  // namespace longtake::testing
