// Store, pictures and progress of the process that finishes blocks.
#pragma once

#include <optional>
#include <string>

#include "launch/job.h"
#include "launch/progress.h"
#include "launch/report.h"
#include "launch/work_device.h"
#include "runtime/stream/stream_writer.h"

namespace longtake {

class RunOutput {
 public:
  RunOutput(const Job& job, StreamWriter::Mode mode, ThreadPool& pool, int rank_on_node,
            bool progress);

  StreamWriter& writer() { return *writer_; }
  const RunStart& start() const { return start_; }  // where the run begins or goes on
  void update(int64_t visits);
  void update() { update(state_.steps); }
  void discard();         // before the first block: the run is not to be
  CommitReport finish();  // everything is stored and decoded
  CommitReport stop();    // stored; what is not decoded stays so
  int64_t committed_blocks() const { return writer_->blocks(); }

 private:
  // At the end of a run, whatever its end, the store decides whether its folder has a use.
  class DiscardUnused {
   public:
    explicit DiscardUnused(LatentStore& store) : store_(store) {}
    ~DiscardUnused() { store_.discard_unused(); }
    DiscardUnused(const DiscardUnused&) = delete;
    DiscardUnused& operator=(const DiscardUnused&) = delete;

   private:
    LatentStore& store_;
  };
  static RunStart start_of(const Job& job, const LatentStore& store);
  CommitReport close();

  LatentStore store_;
  DiscardUnused discard_unused_;  // after the writer has stopped and the video is gone
  RunStart start_;
  WorkDevice device_;  // of the decoder
  std::optional<VideoOutput> video_;
  std::optional<StreamWriter> writer_;
  Progress progress_;
  ProgressState state_;
};

}  // namespace longtake
