#include "launch/rank_run.h"

#include <algorithm>
#include <chrono>

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

RankRun::RankRun(const Job& job, RankId rank, const PromptSet& prompts, Transport* transport,
                 StreamWriter* writer, ThreadPool& pool, Update update)
    : job_(job), rank_(rank), writer_(writer), pool_(pool), solver_(job.solver()), noise_(job) {
  const auto start = std::chrono::steady_clock::now();
  Buffer::reset_peak_bytes();  // encoding the prompts is over
  StageSpec stage;
  stage.units = job.stages.at(static_cast<size_t>(job.plan.mesh.stage(rank).value));
  stage.compute = job.compute;
  stage.timesteps = solver_->schedule().timesteps;
  stage.one_block = job.plan.layout.blocks() == 1;
  model_.emplace(job.folder, job.guidance(), prompts, stage, StreamRef(pool));
  load_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  ExecutorSpec spec;
  spec.plan = job.plan;
  spec.rank = rank;
  spec.channels = job.channels;
  spec.height = job.height;
  spec.width = job.width;
  ExecutorParts parts;
  parts.model = &*model_;
  parts.solver = solver_.get();
  parts.transport = transport;
  parts.noise = [this](BlockId block, Tensor noise) { noise_.fill(block, noise); };
  parts.prompt_of = [this](BlockId block) { return job_.prompt_of(block); };
  parts.emit = [this](BlockId, ConstTensor latents) { writer_->push(latents); };
  parts.progress = std::move(update);
  executor_.emplace(spec, parts, StreamRef(pool));
}

void RankRun::run() {
  executor_->run();
}

RankReport RankRun::report() const {
  const Trace& t = executor_->trace();
  RankReport out;
  out.rank = static_cast<int>(rank_.value);
  out.host = host_name();
  const UnitRange units = model_->spec().units;
  out.first_unit = units.begin;
  out.end_unit = units.end;
  out.weight_bytes = model_->weight_bytes();
  out.buffer_bytes = executor_->buffer_bytes();
  out.peak_bytes = peak_resident_bytes();
  out.device_peak_bytes = Buffer::peak_bytes();
  out.load_s = load_s_;
  const double compute = seconds_of<Embed>(t) + seconds_of<Forward>(t) + seconds_of<Head>(t);
  out.run_s = executor_->run_seconds();
  out.attention_s = executor_->clock().attention_s;
  out.linear_s = executor_->clock().linear_s;
  out.other_s = compute + seconds_of<Admit>(t) - out.attention_s - out.linear_s;
  out.solver_s = seconds_of<SolverStep>(t);
  out.send_s = seconds_of<Send>(t) + seconds_of<Recv>(t);
  out.wait_s = t.wait_seconds();
  // Storing and, on a single rank, decoding happen within Emit.
  out.idle_s = std::max(0.0, out.run_s - compute - seconds_of<Admit>(t) - out.solver_s -
                                 out.send_s - out.wait_s - seconds_of<Emit>(t));
  if (writer_) {
    out.store_s = writer_->seconds().store;
    out.decode_s = writer_->seconds().decode;
    out.first_frames_s = writer_->seconds().first_frames;
  }
  return out;
}

}  // namespace longtake
