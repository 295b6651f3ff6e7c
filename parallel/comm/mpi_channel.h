// Data channels over MPI: receives are posted ahead into the channel's own buffers.
#pragma once

#include <memory>

#include "parallel/comm/channel.h"

namespace longtake {

std::unique_ptr<Transport> make_mpi_transport(int rank, int ranks, Deadline deadline);

// Fails unless `status` is success, naming the call.
void check_mpi(int status, const char* call);

}  // namespace longtake
