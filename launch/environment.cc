#include "launch/environment.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr int kMostThreads = 4096;

int parse_threads(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 ||
      value > kMostThreads) {
    fail(ExitCode::usage, "LONGTAKE_THREADS: expected a whole number from 1 to {}, found `{}`",
         kMostThreads, text);
  }
  return value;
}

double parse_work(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0))
    fail(ExitCode::usage, "LONGTAKE_LEAST_WORKER_WORK: expected a number from 0, found `{}`", text);
  return value;
}

std::optional<int64_t> parse_job_end(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value <= 0) return {};
  return value;
}

Isa parse_isa_variable(const char* text) {
  try {
    return parse_isa(text);
  } catch (const Error& e) {
    fail(ExitCode::usage, "LONGTAKE_ISA: {}", e.what());
  }
}

// Open MPI's mpirun, MPICH's, and srun with PMIx or PMI. What rank this is is asked of MPI only.
bool started_by_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "MPI_LOCALNRANKS"}) {
    if (std::getenv(name)) return true;
  }
  return false;
}

}  // namespace

Environment read_environment() {
  Environment out;
  out.mpi = started_by_launcher();
  if (const char* text = std::getenv("LONGTAKE_ISA")) out.isa = parse_isa_variable(text);
  if (const char* text = std::getenv("LONGTAKE_THREADS")) out.threads = parse_threads(text);
  if (const char* text = std::getenv("LONGTAKE_LEAST_WORKER_WORK"))
    out.least_worker_work = parse_work(text);
  if (const char* text = std::getenv("SLURM_JOB_END_TIME")) out.job_end = parse_job_end(text);
  return out;
}

std::string environment_help() {
  return "Environment:\n"
         "  LONGTAKE_THREADS=N   threads of each rank when --threads does not say\n"
         "  LONGTAKE_ISA=NAME    vector instructions: portable, avx2, avx512, avx512_bf16\n"
         "                       (default: the best of this processor)\n"
         "  LONGTAKE_LEAST_WORKER_WORK=X\n"
         "                       query rows x keys of a head below which attention is not sent to\n"
         "                       workers (default 2e5 on the CPU, 1e7 on a GPU)\n"
         "  SLURM_JOB_END_TIME   set by Slurm: the run stops at a commit before it\n";
}

}  // namespace longtake
