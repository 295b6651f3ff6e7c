#include "launch/run_output.h"

#include <algorithm>

#include "launch/log.h"
#include "launch/machine.h"
#include "parallel/plan/held_state.h"

namespace longtake {

RunOutput::RunOutput(const Job& job, StreamWriter::Mode mode, ThreadPool& pool, int rank_on_node,
                     bool progress)
    : store_(job.config.output.run, job.identity()),
      discard_unused_(store_),
      start_(start_of(job, store_)),
      device_(job.config.device, rank_on_node, pool),
      progress_(progress) {
  const BlockLayout& layout = job.plan.layout;
  if (store_.first_block() != layout.first_block ||
      store_.finished_frames() != layout.finished_frames)
    fail(ExitCode::error,
         "{}: expected a plan from block {} at latent frame {}, found one from block {} at {}: "
         "another process changed the run meanwhile",
         store_.path().string(), store_.first_block(), store_.finished_frames(), layout.first_block,
         layout.finished_frames);
  if (!store_.notice().empty()) log_warning("{}", store_.notice());
  const RunConfig& c = job.config;
  if (!c.output.latents_only) {
    const VaeConfig vae = job.folder.vae_config.value_or(VaeConfig{});
    const VideoTarget target{c.output.run / c.output.video,
                             c.output.run / "preview.png",
                             c.video.fps,
                             0,
                             c.video.frames,
                             choose_vae_tile(c.output.vae_tiles, vae, job.height, job.width),
                             job.compute};
    video_.emplace(
        job.folder, target, c.video.height, c.video.width,
        [](const std::string& notice) { log_warning("{}", notice); }, device_.stream());
  }
  const int64_t finished = finished_before(job.plan, start_.sweep);
  writer_.emplace(store_, video_ ? &*video_ : nullptr, mode, pool, finished, choose_threads(0));
  if (layout.first_block > 0)
    log_info("{}: {} finished blocks stay, new ones from latent frame {} to {}",
             store_.path().string(), layout.first_block, layout.finished_frames, job.frames);
  if (store_.epoch() > 1)
    log_info("{}: going on with {} blocks committed, from block {} at sweep {}",
             store_.path().string(), store_.committed_blocks().size(), finished, start_.sweep);
  state_.total_blocks = job.plan.layout.blocks().value_or(0);
  state_.total_steps = layout.new_blocks().value_or(0) * job.plan.steps;
  state_.total_frames = video_ ? c.video.frames : 0;
}

// Of a run that died between its last block and its report only the report, and what is missing of
// the video, are left to do.
RunStart RunOutput::start_of(const Job& job, const LatentStore& store) {
  if (store.complete()) return {store.epoch(), PlanMaker(job.plan).sweeps().value_or(0)};
  const auto& state = store.resume_state();
  return {store.epoch(), state ? state->sweep : 0};
}

void RunOutput::update(int64_t visits) {
  state_.steps = visits;
  state_.blocks = writer_->blocks();
  state_.frames = writer_->frames();
  progress_.update(state_);
}

void RunOutput::discard() {
  writer_.reset();
  video_.reset();
  store_.discard_unused();
}

CommitReport RunOutput::finish() {
  writer_->finish();
  update(state_.total_steps);
  return close();
}

CommitReport RunOutput::stop() {
  writer_->stop();
  update();
  return close();
}

CommitReport RunOutput::close() {
  progress_.finish();
  CommitReport out;
  out.latents_sha256 = store_.latents_sha256();
  const std::vector<double>& commits = writer_->seconds().commits;
  out.commits = static_cast<int64_t>(commits.size());
  out.p50_s = percentile(commits, 0.5);
  out.p99_s = percentile(commits, 0.99);
  out.blocks = writer_->blocks();
  store_.close();
  return out;
}

}  // namespace longtake
