// A video's latents through plan and executor, ranks as threads: for tests of the block queue.
#pragma once

#include <functional>
#include <map>

#include "parallel/comm/loopback_channel.h"
#include "runtime/exec/executor.h"

namespace longtake::testing {

struct QueueRun {
  const ModelFolder* folder = nullptr;
  const PromptSet* prompts = nullptr;
  Guidance guidance;
  double shift = 3.0;
  DType compute = DType::f32;
  PlanSpec plan;
  int64_t height = 8, width = 8;   // of a latent frame
  std::vector<StageUnits> stages;  // empty: cut evenly
  int threads = 1;
  int channel_depth = 2;
  LoopbackJob::Delay delay;
  std::chrono::milliseconds deadline = std::chrono::seconds(60);
  std::function<void(BlockId, Tensor)> noise;
  std::function<int64_t(BlockId)> prompt_of;
};

// Finished latents by block; fails with the first error of any rank.
std::map<int64_t, OwnedTensor> run_queue(const QueueRun& run);

bool same_bits(const std::map<int64_t, OwnedTensor>& a, const std::map<int64_t, OwnedTensor>& b);

}  // namespace longtake::testing
