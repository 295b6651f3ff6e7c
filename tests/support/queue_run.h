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
  // Features in host memory, with these copies for each rank; empty: beside the rest.
  std::function<std::unique_ptr<SideCopies>(StreamRef)> offload;
  std::chrono::milliseconds deadline = std::chrono::seconds(60);
  std::function<void(BlockId, Tensor)> noise;
  std::function<int64_t(BlockId)> prompt_of;
};

// A run up to a sweep: the blocks finished by then and the state of all ranks, in memory.
struct StoppedRun : StateSource {
  int64_t sweep = 0;
  std::map<int64_t, OwnedTensor> blocks;
  std::vector<StatePart> parts;

  bool has(const std::string& name) const override;
  void read_layers(const std::string& name, int64_t first_layer, Tensor to) const override;
  void read(const std::string& name, Tensor to) const override;
  OwnedTensor finished(int64_t first_frame, int64_t frames) const override;
};

// Finished latents by block; fails with the first error of any rank.
std::map<int64_t, OwnedTensor> run_queue(const QueueRun& run);
// The same up to a sweep, and from there on: the blocks that were finished afterwards. A video that
// is made longer begins with its finished blocks as the state before sweep 0.
StoppedRun run_queue_until(const QueueRun& run, int64_t sweep,
                           const StoppedRun* finished = nullptr);
std::map<int64_t, OwnedTensor> run_queue_from(const QueueRun& run, const StoppedRun& state);

OwnedTensor copy_of(const OwnedTensor& latents);
bool same_bits(const std::map<int64_t, OwnedTensor>& a, const std::map<int64_t, OwnedTensor>& b);

}  // namespace longtake::testing
