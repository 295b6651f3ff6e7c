// One rank's part of a run: its layers, its instructions and, on the rank that finishes blocks, the
// run folder and the video.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "launch/job.h"
#include "launch/rank_workers.h"
#include "launch/report.h"
#include "launch/run_limits.h"
#include "launch/work_device.h"
#include "runtime/exec/executor.h"
#include "runtime/stream/checkpoint.h"
#include "runtime/stream/state_file.h"
#include "runtime/stream/stream_writer.h"

namespace longtake {

// The rank whose solver finishes blocks: it stores and decodes them.
RankId emitting_rank(const Mesh& mesh);

class RankRun {
 public:
  using Update = std::function<void(int64_t visits)>;
  // Of a rank whose work is done in this stream's order; null for a job of one rank.
  using MakeTransport = std::function<std::unique_ptr<Transport>(StreamRef)>;

  // `writer` on the emitting rank, else null.
  RankRun(const Job& job, RankId rank, const RunStart& start, const RunLimits& limits,
          const PromptSet& prompts, const MakeTransport& make_transport, StreamWriter* writer,
          const RankAttention& attention, ThreadPool& pool, int rank_on_node, Update update);

  void run();
  // Why it stopped before the end, at a commit; empty: it did not.
  const std::string& stopped_by() const { return checkpointer_->stopped_by(); }
  RankReport report() const;
  const Trace& trace() const { return executor_->trace(); }

 private:
  void read_model(const RunStart& start, const PromptSet& prompts);
  void open_checkpoints(const RunStart& start, const RunLimits& limits);

  const Job& job_;
  RankId rank_;
  StreamWriter* writer_;
  RankAttention attention_;
  WorkDevice device_;
  std::unique_ptr<SideCopies> copies_;  // of offloaded features
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Solver> solver_;
  NoiseSource noise_;
  double load_s_ = 0;
  std::optional<StageModel> model_;
  std::optional<LatentReader> reader_;  // of a run that goes on
  std::optional<StateFiles> state_;
  std::optional<Checkpointer> checkpointer_;
  std::optional<Executor> executor_;
};

}  // namespace longtake
