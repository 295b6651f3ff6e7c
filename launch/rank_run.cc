#include "launch/rank_run.h"

#include <algorithm>
#include <chrono>

#include "kernels/cuda/side_copies.h"
#include "launch/log.h"

namespace longtake {

namespace {

// Seconds of one kind of instruction.
template <class Kind>
double seconds_of(const Trace& trace) {
  return trace.seconds(Instruction(Kind{}).index());
}

}  // namespace

RankId emitting_rank(const Mesh& mesh) {
  return mesh.rank({mesh.stages - 1}, {0});
}

RankRun::RankRun(const Job& job, RankId rank, const RunStart& start, const RunLimits& limits,
                 const PromptSet& prompts, const MakeTransport& make_transport,
                 StreamWriter* writer, const RankAttention& attention, ThreadPool& pool,
                 int rank_on_node, Update update)
    : job_(job),
      rank_(rank),
      writer_(writer),
      attention_(attention),
      device_(job.config.device, rank_on_node, pool),
      transport_(make_transport(device_.stream())),
      solver_(job.solver()),
      noise_(job) {
  read_model(start, prompts);
  ExecutorSpec spec;
  spec.plan = job.plan;
  spec.rank = rank;
  spec.channels = job.channels;
  spec.height = job.height;
  spec.width = job.width;
  spec.begin = start.sweep;
  ExecutorParts parts;
  parts.model = &*model_;
  parts.solver = solver_.get();
  parts.transport = transport_.get();
  parts.exchange = attention.workers;
  if (attention.service) parts.gate = &attention.service->gate();
  if (job.offload) copies_ = cuda::make_side_copies(device_.stream().cuda());
  parts.offload = copies_.get();
  parts.noise = [this](BlockId block, Tensor noise) { noise_.fill(block, noise); };
  parts.prompt_of = [this](BlockId block) { return job_.prompt_of(block); };
  parts.emit = [this](BlockId, ConstTensor latents) { writer_->push(latents); };
  parts.progress = std::move(update);
  parts.state = state_ ? &*state_ : nullptr;
  parts.after_sweep = [this](int64_t sweep) { return checkpointer_->after_sweep(sweep); };
  executor_.emplace(spec, parts, device_.stream());
  open_checkpoints(start, limits);
}

void RankRun::read_model(const RunStart& start, const PromptSet& prompts) {
  const auto begin = std::chrono::steady_clock::now();
  Buffer::reset_peak_bytes();  // encoding the prompts is over
  StageSpec stage;
  stage.units = job_.stages.at(static_cast<size_t>(job_.plan.mesh.stage(rank_).value));
  stage.compute = job_.compute;
  stage.timesteps = solver_->schedule().timesteps;
  stage.one_block = job_.plan.layout.new_blocks() == 1;
  model_.emplace(job_.folder, job_.guidance(), prompts, stage, device_.stream());
  if (PlanMaker(job_.plan, start.sweep).done()) return;
  if (start.sweep > 0 || job_.plan.layout.first_block > 0) reader_.emplace(job_.config.output.run);
  if (start.sweep > 0) {
    const auto& states = reader_->log().states;
    const auto found = std::find_if(states.rbegin(), states.rend(), [&](const CommittedState& s) {
      return s.sweep == start.sweep;
    });
    LT_CHECK(found != states.rend(), "rank {}: no state before sweep {} in {}", rank_.value,
             start.sweep, (reader_->path() / "COMMIT").string());
    state_.emplace(*reader_, *found);
  } else if (reader_) {
    state_.emplace(*reader_, CommittedState{});
  }
  load_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void RankRun::open_checkpoints(const RunStart& start, const RunLimits& limits) {
  CheckpointSpec spec;
  spec.plan = job_.plan;
  spec.rank = rank_;
  spec.run = job_.config.output.run;
  spec.epoch = start.epoch;
  spec.begin = start.sweep;
  spec.every_blocks = job_.config.checkpoint.every.value_or(0);
  checkpointer_.emplace(
      spec, transport_ ? &transport_->control() : nullptr,
      [this](int64_t sweep) { return executor_->snapshot(sweep); },
      [this](int64_t sweep) { executor_->drain(sweep); },
      [&limits](double ahead_s) { return limits.reason(ahead_s); },
      [this](CommittedState state) { writer_->push_state(std::move(state)); });
}

void RankRun::run() {
  executor_->run();
  if (attention_.service) attention_.service->gate().open();  // until the others are done as well
  if (const FeatureOffload* offload = executor_->features().offload())
    log_debug("rank {}: {} times features came from host memory, {} times only when needed",
              rank_.value, offload->fetched(), offload->fetched_late());
  if (stopped_by().empty()) checkpointer_->finish();
}

RankReport RankRun::report() const {
  const Trace& t = executor_->trace();
  RankReport out;
  out.rank = static_cast<int>(rank_.value);
  out.host = host_name();
  const UnitRange units = model_->spec().units.hull();
  out.first_unit = units.begin;
  out.end_unit = units.end;
  out.weight_bytes = model_->weight_bytes();
  out.buffer_bytes = executor_->buffer_bytes();
  out.peak_bytes = peak_resident_bytes();
  out.device_peak_bytes = device_.peak_bytes();
  out.load_s = load_s_;
  const double compute = seconds_of<Embed>(t) + seconds_of<Forward>(t) + seconds_of<Head>(t);
  out.run_s = executor_->run_seconds();
  out.attention_s = executor_->clock().attention_s;
  out.linear_s = executor_->clock().linear_s;
  out.other_s = compute + seconds_of<Admit>(t) - out.attention_s - out.linear_s;
  out.solver_s = seconds_of<SolverStep>(t);
  out.send_s = seconds_of<Send>(t) + seconds_of<Recv>(t);
  out.wait_s = t.wait_seconds();
  out.checkpoint_s = checkpointer_->seconds();
  // Storing and, on a single rank, decoding happen within Emit.
  out.idle_s = std::max(0.0, out.run_s - compute - seconds_of<Admit>(t) - out.solver_s -
                                 out.send_s - out.wait_s - out.checkpoint_s - seconds_of<Emit>(t));
  if (attention_.workers) out.attention = attention_.workers->report();
  if (attention_.service) {
    const WorkerSummary& served = attention_.service->finish();
    out.served_tasks = served.tasks;
    out.served_s = served.kernel_s;
  }
  if (writer_) {
    out.store_s = writer_->seconds().store;
    out.decode_s = writer_->seconds().decode;
    out.first_frames_s = writer_->seconds().first_frames;
  }
  return out;
}

}  // namespace longtake
