#include "tests/support/queue_run.h"

#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

namespace longtake::testing {

namespace {

StageUnits units_of(const QueueRun& run, int64_t stage) {
  if (!run.stages.empty()) return run.stages.at(static_cast<size_t>(stage));
  const int64_t units = 3 * run.folder->transformer_config.layers, n = run.plan.mesh.stages;
  return UnitRange{units * stage / n, units * (stage + 1) / n};
}

class Job {
 public:
  explicit Job(const QueueRun& run)
      : run_(run), loopback_(static_cast<int>(run.plan.mesh.ranks()), {run.deadline}, run.delay) {}

  std::map<int64_t, OwnedTensor> all_ranks() {
    std::vector<std::thread> ranks;
    for (int r = 0; r < run_.plan.mesh.ranks(); ++r)
      ranks.emplace_back([this, r] {
        try {
          one_rank(r);
        } catch (const std::exception& e) {
          const std::lock_guard lock(mutex_);
          if (!error_) error_ = std::current_exception();
          loopback_.abort(e.what());
        }
      });
    for (std::thread& rank : ranks) rank.join();
    if (error_) std::rethrow_exception(error_);
    return std::move(blocks_);
  }

 private:
  void one_rank(int r) {
    const auto transport = loopback_.transport(r);
    ThreadPool pool(run_.threads);
    const UniPc solver(run_.plan.steps, run_.shift);
    const int64_t stage = run_.plan.mesh.stage({r}).value;
    StageModel model(*run_.folder, run_.guidance, *run_.prompts,
                     {units_of(run_, stage), run_.compute, solver.schedule().timesteps, false},
                     StreamRef(pool));
    ExecutorSpec spec{run_.plan,   {r},        run_.folder->transformer_config.in_channels,
                      run_.height, run_.width, run_.channel_depth};
    ExecutorParts parts;
    parts.model = &model;
    parts.solver = &solver;
    parts.transport = transport.get();
    parts.noise = run_.noise;
    parts.prompt_of = run_.prompt_of;
    parts.emit = [this](BlockId block, ConstTensor latents) {
      OwnedTensor copy(DType::f32, latents.shape);
      std::memcpy(copy.as<float>(), latents.data, latents.bytes());
      const std::lock_guard lock(mutex_);
      blocks_.emplace(block.value, std::move(copy));
    };
    Executor(spec, parts, StreamRef(pool)).run();
  }

  const QueueRun& run_;
  LoopbackJob loopback_;
  std::mutex mutex_;
  std::exception_ptr error_;
  std::map<int64_t, OwnedTensor> blocks_;
};

}  // namespace

std::map<int64_t, OwnedTensor> run_queue(const QueueRun& run) {
  return Job(run).all_ranks();
}

bool same_bits(const std::map<int64_t, OwnedTensor>& a, const std::map<int64_t, OwnedTensor>& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [block, latents] : a) {
    const auto other = b.find(block);
    if (other == b.end() || other->second.shape() != latents.shape() ||
        std::memcmp(latents.as<float>(), other->second.as<float>(), latents.bytes()) != 0)
      return false;
  }
  return true;
}

}  // namespace longtake::testing
