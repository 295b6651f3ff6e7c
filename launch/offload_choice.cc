#include "launch/offload_choice.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "kernels/cuda/stream.h"
#include "launch/log.h"
#include "launch/work_device.h"
#include "parallel/cost/cost_model.h"

namespace longtake {

namespace {

// Ranks take the GPUs of a node in turn (gpu_of).
GpuMemory memory_of(const Job& job, RankId rank, int rank_on_node, int ranks_on_node) {
  const CostModel costs(job.plan, job.shape, job.hardware, job.stages);
  const int gpu = gpu_of(rank_on_node);
  const auto gpus = static_cast<int>(cuda::devices().size());
  const int sharing = (ranks_on_node - gpu + gpus - 1) / gpus;
  return {peak_bytes(job.plan, costs, rank, sweeps_to_peak(job.plan)),
          static_cast<double>(cuda::free_bytes(gpu)) / std::max(1, sharing)};
}

}  // namespace

bool choose_offload(OffloadChoice asked, DeviceChoice device, double missing_bytes) {
  if (device != DeviceChoice::cuda) {
    if (asked == OffloadChoice::on)
      fail(ExitCode::usage,
           "offload: on is for GPUs (device cuda); on the CPU features lie in host memory anyway");
    return false;
  }
  return asked == OffloadChoice::automatic ? missing_bytes > 0 : asked == OffloadChoice::on;
}

bool choose_offload(const Job& job, Comm& comm, int ranks_on_node) {
  double missing = 0;
  if (job.config.device == DeviceChoice::cuda && job.config.offload == OffloadChoice::automatic) {
    const bool threads = comm.ranks() == 1;  // ranks of one process
    const int64_t end = threads ? job.plan.mesh.ranks() : 1;
    for (int64_t i = 0; i < end; ++i) {
      const RankId rank{threads ? i : comm.rank()};
      const int on_node = threads ? static_cast<int>(i) : comm.rank_on_node();
      missing = std::max(missing, memory_of(job, rank, on_node, ranks_on_node).missing_bytes());
    }
  }
  missing = static_cast<double>(comm.max(static_cast<int64_t>(missing)));
  const bool out = choose_offload(job.config.offload, job.config.device, missing);
  if (out && missing > 0 && comm.rank() == 0)
    log_info(
        "the plan needs {:.1f} GB more than a GPU has free: features of neighbours stay in host "
        "memory (--offload)",
        missing * 1e-9);
  return out;
}

}  // namespace longtake
