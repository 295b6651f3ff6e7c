// Which way data take between ranks: asked for, or the best that all ranks can use.
#pragma once

#include <memory>
#include <string>

#include "kernels/base/stream.h"
#include "launch/run_config.h"
#include "parallel/comm/comm.h"

namespace longtake {

enum class DataPath { mpi, ipc, nccl };

// What the ranks found out together; empty: it can be used.
struct DataPathLimits {
  std::string no_ipc, no_nccl;
  bool shared_gpus = false;  // NCCL is then used only where it is asked for
};

struct DataPathChoice {
  DataPath path = DataPath::mpi;
  std::string why;  // for the log, or of the failure
  bool failed = false;
};

// For ranks on GPUs.
DataPathChoice choose_path(TransportChoice asked, const DataPathLimits& limits);

// The same answer on every rank; fails there with `usage` when what was asked for cannot be used.
// Rank 0 logs it.
DataPath choose_transport(const RunConfig& config, Comm& comm);

// `control` as it is, or below a transport between GPUs.
std::unique_ptr<Transport> make_transport(DataPath path, std::unique_ptr<Transport> control,
                                          StreamRef stream, Deadline deadline);

}  // namespace longtake
