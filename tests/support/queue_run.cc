#include "tests/support/queue_run.h"

#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "tests/support/test_stream.h"

namespace longtake::testing {

namespace {

StageUnits units_of(const QueueRun& run, int64_t stage) {
  if (!run.stages.empty()) return run.stages.at(static_cast<size_t>(stage));
  const int64_t units = 3 * run.folder->transformer_config.layers, n = run.plan.mesh.stages;
  return UnitRange{units * stage / n, units * (stage + 1) / n};
}

class Job {
 public:
  // begins with `state`, or from nothing; stops before sweep `end` with the state in `stopped`.
  Job(const QueueRun& run, const StoppedRun* state, StoppedRun* stopped)
      : run_(run),
        state_(state),
        stopped_(stopped),
        loopback_(static_cast<int>(run.plan.mesh.ranks()), {run.deadline}, run.delay) {}

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
    RankStream stream(run_.threads);
    const UniPc solver(run_.plan.steps, run_.shift);
    const int64_t stage = run_.plan.mesh.stage({r}).value;
    StageModel model(*run_.folder, run_.guidance, *run_.prompts,
                     {units_of(run_, stage), run_.compute, solver.schedule().timesteps, false},
                     stream.ref());
    ExecutorSpec spec{run_.plan,
                      {r},
                      run_.folder->transformer_config.in_channels,
                      run_.height,
                      run_.width,
                      run_.channel_depth,
                      state_ ? state_->sweep : 0};
    const std::unique_ptr<SideCopies> copies = run_.offload ? run_.offload(stream.ref()) : nullptr;
    ExecutorParts parts;
    parts.offload = copies.get();
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
    parts.state = state_;
    std::optional<Executor> executor;
    parts.after_sweep = [&](int64_t sweep) {
      if (!stopped_ || sweep != stopped_->sweep) return true;
      executor->drain(sweep);
      const std::lock_guard lock(mutex_);
      for (StatePart& part : executor->snapshot(sweep).parts) stopped_->parts.push_back(part);
      return false;
    };
    executor.emplace(spec, parts, stream.ref());
    executor->run();
    // Only the first visit of a run that goes on has none before it to fetch while it works.
    if (const FeatureOffload* offload = executor->features().offload())
      LT_CHECK(offload->fetched_late() <= (state_ ? 2 : 0), "{} features came late",
               offload->fetched_late());
  }

  const QueueRun& run_;
  const StoppedRun* state_;
  StoppedRun* stopped_;
  LoopbackJob loopback_;
  std::mutex mutex_;
  std::exception_ptr error_;
  std::map<int64_t, OwnedTensor> blocks_;
};

}  // namespace

std::map<int64_t, OwnedTensor> run_queue(const QueueRun& run) {
  return Job(run, nullptr, nullptr).all_ranks();
}

StoppedRun run_queue_until(const QueueRun& run, int64_t sweep, const StoppedRun* finished) {
  StoppedRun out;
  out.sweep = sweep;
  out.blocks = Job(run, finished, &out).all_ranks();
  if (!finished) return out;
  for (const auto& [block, latents] : finished->blocks) out.blocks.emplace(block, copy_of(latents));
  return out;
}

std::map<int64_t, OwnedTensor> run_queue_from(const QueueRun& run, const StoppedRun& state) {
  return Job(run, &state, nullptr).all_ranks();
}

bool StoppedRun::has(const std::string& name) const {
  for (const StatePart& part : parts)
    if (part.name == name) return true;
  return false;
}

void StoppedRun::read_layers(const std::string& name, int64_t first_layer, Tensor to) const {
  const size_t layer_bytes = to.bytes() / static_cast<size_t>(to.dim(0));
  for (int64_t layer = first_layer; layer < first_layer + to.dim(0); ++layer) {
    const StatePart* found = nullptr;
    for (const StatePart& part : parts)
      if (part.name == name && part.first_layer <= layer &&
          layer < part.first_layer + part.data.dim(0))
        found = &part;
    LT_CHECK(found, "no {} of layer {}", name, layer);
    std::memcpy(
        static_cast<char*>(to.data) + static_cast<size_t>(layer - first_layer) * layer_bytes,
        static_cast<const char*>(found->data.data) +
            static_cast<size_t>(layer - found->first_layer) * layer_bytes,
        layer_bytes);
  }
}

void StoppedRun::read(const std::string& name, Tensor to) const {
  for (const StatePart& part : parts)
    if (part.name == name) {
      LT_CHECK(part.data.shape == to.shape, "{}: expected {}, found {}", name, to.shape.text(),
               part.data.shape.text());
      std::memcpy(to.data, part.data.data, to.bytes());
      return;
    }
  fail(ExitCode::error, "no {}", name);
}

OwnedTensor StoppedRun::finished(int64_t first_frame, int64_t frames) const {
  const Shape& like = blocks.at(0).shape();
  const int64_t channels = like[0], plane = like[2] * like[3];
  OwnedTensor out(DType::f32, {channels, frames, like[2], like[3]});
  int64_t found = 0, begin = 0;
  for (const auto& [block, latents] : blocks) {
    for (int64_t t = 0; t < latents.dim(1); ++t) {
      const int64_t to = begin + t - first_frame;
      if (to < 0 || to >= frames) continue;
      ++found;
      for (int64_t c = 0; c < channels; ++c)
        std::memcpy(out.as<float>() + (c * frames + to) * plane,
                    latents.as<float>() + (c * latents.dim(1) + t) * plane,
                    static_cast<size_t>(plane) * sizeof(float));
    }
    begin += latents.dim(1);
  }
  LT_CHECK(found == frames, "{} of {} frames from {} are finished", found, frames, first_frame);
  return out;
}

OwnedTensor copy_of(const OwnedTensor& latents) {
  OwnedTensor out(DType::f32, latents.shape());
  std::memcpy(out.as<float>(), latents.as<float>(), latents.bytes());
  return out;
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
