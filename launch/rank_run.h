// One rank's part of a run: its layers, its instructions and, on the rank that finishes blocks, the
// run folder and the video.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "launch/job.h"
#include "launch/report.h"
#include "runtime/exec/executor.h"
#include "runtime/stream/stream_writer.h"

namespace longtake {

// The rank whose solver finishes blocks: it stores and decodes them.
RankId emitting_rank(const Mesh& mesh);

class RankRun {
 public:
  using Update = std::function<void(int64_t visits)>;

  // `writer` on the emitting rank, else null; `transport` may be null for one rank.
  RankRun(const Job& job, RankId rank, const PromptSet& prompts, Transport* transport,
          StreamWriter* writer, ThreadPool& pool, Update update);

  void run();
  RankReport report() const;
  const Trace& trace() const { return executor_->trace(); }

 private:
  const Job& job_;
  RankId rank_;
  StreamWriter* writer_;
  ThreadPool& pool_;
  std::unique_ptr<Solver> solver_;
  NoiseSource noise_;
  double load_s_ = 0;
  std::optional<StageModel> model_;
  std::optional<Executor> executor_;
};

}  // namespace longtake
