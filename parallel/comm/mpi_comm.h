// Control and data plane over MPI, from one thread per process. Collectives are non-blocking
// inside, so that a peer that died or stopped is found by the deadline.
#pragma once

#include <memory>

#include "parallel/comm/comm.h"

namespace longtake {

// Initialises MPI; finalises it when destroyed.
std::unique_ptr<Comm> make_mpi_comm(Deadline deadline);

}  // namespace longtake
