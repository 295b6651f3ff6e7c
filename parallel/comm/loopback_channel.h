// Ranks as threads of one process: the same contract as between processes, for laptops and tests.
#pragma once

#include <functional>
#include <memory>

#include "parallel/comm/channel.h"

namespace longtake {

struct LoopbackShared;

class LoopbackJob {
 public:
  // How long message number `index` of a channel is held back, for tests of timing.
  using Delay = std::function<std::chrono::microseconds(int from, int to, int tag, int64_t index)>;

  LoopbackJob(int ranks, Deadline deadline, Delay delay = {});
  ~LoopbackJob();

  // Of one rank; must not outlive the job.
  std::unique_ptr<Transport> transport(int rank);
  // Every wait that goes on or comes fails: a rank has failed.
  void abort(const std::string& why);

 private:
  std::shared_ptr<LoopbackShared> shared_;
};

}  // namespace longtake
