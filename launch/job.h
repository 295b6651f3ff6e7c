// A run as all ranks see it: the same configuration, model, mesh and plan everywhere, checked
// before anything is loaded.
#pragma once

#include <vector>

#include "launch/run_config.h"
#include "launch/run_shape.h"
#include "parallel/comm/comm.h"
#include "parallel/plan/plan.h"
#include "runtime/model/model_config.h"
#include "runtime/model/stage_model.h"
#include "runtime/sampler/noise.h"
#include "runtime/sampler/solver.h"
#include "runtime/stream/run_identity.h"

namespace longtake {

// Where a run begins: the first time at sweep 0, later at the state that its store chose.
struct RunStart {
  int64_t epoch = 1;  // how often the run was opened
  int64_t sweep = 0;
};

struct Job {
  RunConfig config;  // with the seed drawn and the run folder named, by rank 0
  ModelFolder folder;
  DType compute = DType::f32;
  std::string computes_with;  // weights and numerics, of the fingerprint
  int64_t channels = 0, frames = 0, height = 0, width = 0;  // latents of the whole video
  PlanSpec plan;
  ModelShape shape;
  HardwareProfile hardware;        // of a rank, the same numbers on all
  std::vector<StageUnits> stages;  // by stage
  bool offload = false;            // features lie in host memory

  std::unique_ptr<Solver> solver() const;
  Guidance guidance() const;
  RunIdentity identity() const;
  // Of the video's prompts, the one at the block's first own frame.
  int64_t prompt_of(BlockId block) const;
};

struct JobRanks {
  int64_t ranks = 1;  // of the pipeline
  int on_node = 1;    // of them, that share this node's memory
  int threads = 1;    // of each
  int cores = 1;      // that the last rank may use when nobody needs them any more
  int spare = 0;      // devices of rank 0's node that no rank uses: workers may
};

// `hardware`: a profile's name or file; empty: rank 0 measures a moment. Fails on every rank when
// they do not agree.
Job make_job(const RunConfig& config, Comm& comm, const JobRanks& ranks,
             const std::string& hardware);

PromptSet encode_prompts(const Job& job, StreamRef stream);
// What rank 0 encoded, on every rank.
PromptSet share_prompts(const PromptSet& mine, Comm& comm);

// Noise of a block, f32 [channels, frames, h, w]; from --noise or the pool.
class NoiseSource {
 public:
  explicit NoiseSource(const Job& job);
  void fill(BlockId block, Tensor noise);

 private:
  const Job& job_;
  NoisePool pool_;
};

}  // namespace longtake
