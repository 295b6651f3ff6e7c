// The commands and what the command line tells them. Each returns an exit code, or fails with an
// Error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "launch/problems.h"
#include "launch/run_config.h"

namespace longtake {

struct GenerateOptions {
  int threads = 0;                 // 0: what the machine has, shared among its ranks
  bool progress = true;            // false with --no-progress and -q
  bool mpi = false;                // started by mpirun or srun
  double deadline_s = 600;         // of every wait for another rank
  std::optional<int64_t> job_end;  // of the batch job, seconds since 1970
  std::string hardware;            // a name or a file; empty: measured at the start
  // Query rows x keys of a head that is worth sending to a worker; default: by the device.
  std::optional<double> least_worker_work;
};

struct PlanOptions {
  std::optional<int64_t> ranks;  // devices, workers among them; default: one stage and the workers
  std::string hardware;          // a name, a file or "uniform"; empty: this machine, measured now
  bool endless = false;
  std::optional<int64_t> sweeps;  // to simulate; default: all, of an endless video until it is even
  bool grid = false, json = false, text = false;
  std::optional<int64_t> rank;  // of text; default: all
  bool calibrate = false;
  std::filesystem::path output;  // of calibrate; empty: standard output
  int threads = 0;
};

struct DecodeOptions {
  std::filesystem::path run;
  std::filesystem::path output;  // empty: the video in the run folder
  std::filesystem::path model;   // empty: the one of the run
  int64_t begin = 0;             // video frames [begin, end)
  std::optional<int64_t> end;
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  std::optional<int64_t> vae_tiles;  // as RunConfig::Output
  int threads = 0;
  bool progress = true;
};

struct WorkerOptions {
  std::filesystem::path connect;  // RUN/workers.addr
  double wait_s = 60;             // for a job that is still starting
  int64_t keep_mb = 1024;         // of keys that will be asked for again
  int gpu = 0;                    // which one, with --device cuda
  DeviceChoice device = DeviceChoice::automatic;
  int threads = 0;
};

struct InfoOptions {
  std::filesystem::path path;
};

struct VerifyOptions {
  std::filesystem::path run;
  bool full = false;
};

struct BenchOptions {
  std::string name;  // one of bench_names()
  std::filesystem::path model, json, folder;
  int64_t dim = 1536, heads = 12, head_dim = 128, ffn = 8960, tokens = 3120;
  int64_t kv_tokens = 0;  // 0: tokens
  int64_t vae_dim = 96, width = 64, height = 48;
  int64_t frames = 0;    // of video, 0: 9, 81 and 401 one after the other
  int64_t vae_tile = 0;  // pixels, 0: whole pictures
  int64_t first_layer = 0, last_layer = 2, block = 8, overlap = 4;  // of a stage's visit
  bool mpi = false;                                                 // started by mpirun or srun
  Precision dtype = Precision::f32;
  DeviceChoice device = DeviceChoice::automatic;
  int threads = 0;
  int64_t repeat = 5;
};

// The configuration of a run, as RUN.json and its last extension say; for `resume`. Of a finished
// one only if it is to be made `longer`.
RunConfig config_of_run(const std::filesystem::path& run, bool longer, Problems& problems);

int run_generate(const RunConfig& config, const GenerateOptions& options);
int run_plan(const RunConfig& config, const PlanOptions& options);
int run_decode(const DecodeOptions& options);
int run_worker_command(const WorkerOptions& options);
int run_info(const InfoOptions& options);
int run_verify(const VerifyOptions& options);
int run_bench(const BenchOptions& options);

}  // namespace longtake
