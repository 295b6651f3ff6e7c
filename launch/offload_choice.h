// Where the features of neighbours lie: on the GPU, or in pinned host memory when a rank's share of
// the plan does not fit beside them.
#pragma once

#include "launch/job.h"

namespace longtake {

// What a rank needs by the plan, and what is free on its GPU for it alone.
struct GpuMemory {
  double need_bytes = 0, free_bytes = 0;
  // Of the free memory some is lost between blocks, and the libraries take some.
  double missing_bytes() const { return need_bytes - 0.9 * free_bytes; }
};

// `missing_bytes`: the most of any rank. Fails with ExitCode::usage when it is asked for where no
// GPU is used.
bool choose_offload(OffloadChoice asked, DeviceChoice device, double missing_bytes);

// The same answer on every rank; rank 0 says so in the log.
bool choose_offload(const Job& job, Comm& comm, int ranks_on_node);

}  // namespace longtake
