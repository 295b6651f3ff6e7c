// The contract: the same bits for any mesh, stage split, thread count, channel depth and timing.
#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "kernels/cuda/side_copies.h"
#include "runtime/sampler/noise.h"
#include "tests/support/golden_file.h"
#include "tests/support/late_copies.h"
#include "tests/support/queue_run.h"
#include "tests/support/random.h"

namespace longtake::testing {

namespace {

// The tiny transformer of the golden queue with a video made up here.
struct Video {
  ModelFolder folder;
  PromptSet prompts;
  QueueRun run;

  Video() {
    folder.transformer = golden_folder() / "block_queue" / "transformer";
    folder.transformer_config = read_transformer_config(folder.transformer);
    const int64_t width = folder.transformer_config.text_dim;
    prompts.positive.push_back(random_tensor({9, width}, 1));
    prompts.positive.push_back(random_tensor({5, width}, 2));
    prompts.negative = random_tensor({3, width}, 3);
    run.folder = &folder;
    run.prompts = &prompts;
    run.height = run.width = 4;
    run.prompt_of = [](BlockId block) { return block.value / 2 % 2; };
    run.plan.layout = {3, 2, 14};
    run.plan.steps = 5;
  }

  std::map<int64_t, OwnedTensor> make() {
    run.noise = [layout = run.plan.layout](BlockId block, Tensor noise) {
      NoisePool(11, layout.block_frames, layout.context_frames).fill(block.value, noise);
    };
    return run_queue(run);
  }
};

// Up to a millisecond, different for every message.
LoopbackJob::Delay random_delays(uint64_t seed) {
  return [seed](int from, int to, int tag, int64_t index) {
    const auto channel = static_cast<uint64_t>((from * 64 + to) * 8 + tag);
    uint64_t z = seed + channel * 1000003u + static_cast<uint64_t>(index);
    z = (z ^ (z >> 31)) * 0x9e3779b97f4a7c15u;
    return std::chrono::microseconds((z >> 40) % 1000);
  };
}

// On a GPU its own, on the CPU as late as allowed.
std::unique_ptr<SideCopies> side_copies(StreamRef stream) {
  if (stream.on_gpu()) return cuda::make_side_copies(stream.cuda());
  return std::make_unique<LateCopies>();
}

constexpr ContextRule kRules[] = {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal,
                                  ContextRule::isolated};

}  // namespace

TEST_CASE("ranks, branches, threads and delays do not change a bit") {
  for (const ContextRule rule : kRules)
    for (const DType compute : {DType::f32, DType::bf16}) {
      Video video;
      video.run.plan.rule = rule;
      video.run.compute = compute;
      const auto one = video.make();
      CHECK(one.size() == 4);
      for (const Mesh mesh :
           {Mesh{2, 1}, Mesh{3, 1}, Mesh{4, 1}, Mesh{1, 2}, Mesh{2, 2}, Mesh{3, 2}, Mesh{4, 2}})
        for (const int threads : {1, 2}) {
          CAPTURE(static_cast<int>(rule));
          CAPTURE(mesh.stages);
          CAPTURE(mesh.branches);
          CAPTURE(threads);
          video.run.plan.mesh = mesh;
          video.run.threads = threads;
          video.run.delay = threads == 1 ? random_delays(5) : LoopbackJob::Delay{};
          CHECK(same_bits(one, video.make()));
        }
    }
}

TEST_CASE("cuts within layers do not change a bit") {
  Video video;
  const auto one = video.make();
  const int64_t units = 3 * video.folder.transformer_config.layers;
  video.run.plan.mesh = {2, 1};
  for (int64_t cut = 1; cut < units; ++cut) {
    CAPTURE(cut);
    video.run.stages = {UnitRange{0, cut}, UnitRange{cut, units}};
    CHECK(same_bits(one, video.make()));
  }
}

// Every rule keeps the branches apart: each may be cut where it likes.
TEST_CASE("branches cut at different sub-layers do not change a bit") {
  for (const ContextRule rule : kRules) {
    Video video;
    video.run.plan.rule = rule;
    const auto one = video.make();
    const int64_t units = 3 * video.folder.transformer_config.layers;
    video.run.plan.mesh = {3, 1};
    for (int64_t skew = 1; skew <= most_skew; ++skew)
      for (int64_t cut = skew + 1; cut + 2 < units; cut += 2) {
        CAPTURE(static_cast<int>(rule));
        CAPTURE(cut);
        CAPTURE(skew);
        video.run.stages = {{{0, cut}, {0, cut - skew}},
                            {{cut, cut + 2}, {cut - skew, cut + 1}},
                            {{cut + 2, units}, {cut + 1, units}}};
        CHECK(same_bits(one, video.make()));
      }
  }
}

TEST_CASE("a run that stops at any sweep goes on with the same bits, on any mesh") {
  const Mesh meshes[] = {{1, 1}, {2, 1}, {3, 1}, {1, 2}, {2, 2}, {4, 1}};
  for (const ContextRule rule : kRules)
    for (const int64_t stagger : {1, 2}) {
      Video video;
      video.run.plan.rule = rule;
      video.run.plan.stagger = stagger;
      video.run.compute = stagger == 1 ? DType::f32 : DType::bf16;
      const auto whole = video.make();
      const int64_t sweeps = *PlanMaker(video.run.plan).sweeps();
      for (int64_t sweep = 1; sweep < sweeps; ++sweep) {
        video.run.plan.mesh = meshes[sweep % 6];
        const StoppedRun stopped = run_queue_until(video.run, sweep);
        video.run.plan.mesh = meshes[sweep * 5 % 7 % 6];
        auto rest = run_queue_from(video.run, stopped);
        CAPTURE(static_cast<int>(rule));
        CAPTURE(sweep);
        CHECK(stopped.blocks.size() + rest.size() == whole.size());
        for (const auto& [block, latents] : stopped.blocks) rest.emplace(block, copy_of(latents));
        CHECK(same_bits(whole, rest));
      }
    }
}

// After a video with a short last block, one that has fewer frames than a block sees, and one whose
// last block is full.
TEST_CASE("a longer video has the same bits on any mesh, stopped at any sweep or not") {
  const Mesh meshes[] = {{1, 1}, {2, 1}, {3, 1}, {1, 2}, {2, 2}};
  for (const ContextRule rule : kRules)
    for (const int64_t finished_frames : {1, 6, 11}) {
      Video video;
      PlanSpec& plan = video.run.plan;
      plan.rule = rule;
      plan.stagger = finished_frames == 6 ? 2 : 1;
      plan.layout.total_frames = finished_frames;
      StoppedRun finished;
      finished.blocks = video.make();
      const int64_t before = *plan.layout.blocks();
      plan.layout.first_block = before;
      plan.layout.finished_frames = finished_frames;
      plan.layout.total_frames = finished_frames + 8;
      const auto whole = run_queue_from(video.run, finished);
      CHECK(static_cast<int64_t>(whole.size()) == 3);
      CHECK(whole.begin()->first == before);
      CHECK(whole.rbegin()->second.dim(1) == 2);
      const int64_t sweeps = *PlanMaker(plan).sweeps();
      for (int64_t sweep = 1; sweep < sweeps; ++sweep) {
        CAPTURE(static_cast<int>(rule));
        CAPTURE(finished_frames);
        CAPTURE(sweep);
        plan.mesh = meshes[sweep % 5];
        CHECK(same_bits(whole, run_queue_from(video.run, finished)));
        const StoppedRun stopped = run_queue_until(video.run, sweep, &finished);
        plan.mesh = meshes[sweep * 3 % 7 % 5];
        auto rest = run_queue_from(video.run, stopped);
        for (const auto& [block, latents] : stopped.blocks)
          if (block >= before) rest.emplace(block, copy_of(latents));
        CHECK(same_bits(whole, rest));
      }
    }
}

// Of the first new block under each rule: it does depend on the last frames before it, and on
// nothing earlier.
TEST_CASE("a longer video sees the last context frames of the finished one") {
  for (const ContextRule rule : kRules) {
    Video video;
    PlanSpec& plan = video.run.plan;
    plan.rule = rule;
    plan.layout.total_frames = 6;  // the last block has one frame, a new one sees two
    StoppedRun finished;
    finished.blocks = video.make();
    plan.layout.first_block = 2, plan.layout.finished_frames = 6, plan.layout.total_frames = 9;
    const auto whole = run_queue_from(video.run, finished);
    const auto with_other_frame = [&](int64_t block, int64_t frame) {
      StoppedRun other;
      for (const auto& [id, latents] : finished.blocks) other.blocks.emplace(id, copy_of(latents));
      OwnedTensor& latents = other.blocks.at(block);
      latents.as<float>()[frame * latents.dim(2) * latents.dim(3)] += 1;
      return run_queue_from(video.run, other);
    };
    CAPTURE(static_cast<int>(rule));
    const bool isolated = rule == ContextRule::isolated;
    CHECK(same_bits(whole, with_other_frame(1, 0)) == isolated);
    CHECK(same_bits(whole, with_other_frame(0, 4)) == isolated);
    CHECK(same_bits(whole, with_other_frame(0, 3)));
  }
}

TEST_CASE("200 random videos, meshes and delays") {
  std::mt19937 random(20261121);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int i = 0; i < 200; ++i) {
    Video video;
    PlanSpec& plan = video.run.plan;
    plan.layout.block_frames = pick(1, 3);
    plan.layout.context_frames = pick(0, plan.layout.block_frames);
    plan.layout.total_frames = pick(1, 9);
    plan.steps = pick(1, 4);
    plan.stagger = pick(1, 3);
    plan.rule = kRules[pick(0, 3)];
    const auto one = video.make();
    plan.mesh = {pick(1, 4), pick(1, 2)};
    video.run.channel_depth = static_cast<int>(pick(2, 3));
    video.run.delay = random_delays(static_cast<uint64_t>(i));
    CAPTURE(i);
    CAPTURE(plan.mesh.stages);
    CAPTURE(plan.mesh.branches);
    CHECK(same_bits(one, video.make()));
  }
}

TEST_CASE("features in host memory do not change a bit") {
  for (const ContextRule rule : kRules)
    for (const int64_t stagger : {1, 2})
      for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}, Mesh{3, 2}}) {
        Video video;
        video.run.plan.rule = rule;
        video.run.plan.stagger = stagger;
        video.run.plan.mesh = mesh;
        video.run.plan.layout.total_frames = 29;
        video.run.compute = stagger == 1 ? DType::f32 : DType::bf16;
        CAPTURE(static_cast<int>(rule));
        CAPTURE(stagger);
        CAPTURE(mesh.stages);
        const auto beside = video.make();
        CHECK(beside.size() == 9);
        video.run.offload = side_copies;
        CHECK(same_bits(beside, video.make()));
      }
}

TEST_CASE("a run stops and goes on with features in host memory or beside the rest") {
  for (const ContextRule rule : kRules)
    for (const bool first : {false, true}) {
      Video video;
      video.run.plan.rule = rule;
      const auto whole = video.make();
      const int64_t sweeps = *PlanMaker(video.run.plan).sweeps();
      for (int64_t sweep = 1; sweep < sweeps; ++sweep) {
        video.run.offload = nullptr;
        if (first) video.run.offload = side_copies;
        const StoppedRun stopped = run_queue_until(video.run, sweep);
        video.run.offload = nullptr;
        if (!first) video.run.offload = side_copies;
        auto rest = run_queue_from(video.run, stopped);
        CAPTURE(static_cast<int>(rule));
        CAPTURE(first);
        CAPTURE(sweep);
        for (const auto& [block, latents] : stopped.blocks) rest.emplace(block, copy_of(latents));
        CHECK(same_bits(whole, rest));
      }
    }
}

TEST_CASE("noise and prompts reach the result") {
  Video video;
  const auto first = video.make();
  video.run.prompt_of = [](BlockId) { return int64_t{0}; };
  CHECK(!same_bits(first, video.make()));
}

}  // namespace longtake::testing
