// Environment variables: read here and nowhere else.
#pragma once

#include <optional>
#include <string>

#include "kernels/base/isa.h"

namespace longtake {

struct Environment {
  std::optional<Isa> isa;                   // LONGTAKE_ISA
  std::optional<int> threads;               // LONGTAKE_THREADS
  std::optional<double> least_worker_work;  // LONGTAKE_LEAST_WORKER_WORK
  std::optional<int64_t> job_end;           // SLURM_JOB_END_TIME, seconds since 1970
  bool mpi = false;  // started by mpirun or srun: the launchers' own variables are there
};

// Fails with ExitCode::usage on a value that is not one.
Environment read_environment();

// For --help.
std::string environment_help();

}  // namespace longtake
