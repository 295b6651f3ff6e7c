// What a run did and how long it took: report.json for programs, report.txt for people.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "parallel/attention/dispatcher.h"

namespace longtake {

struct RankReport {
  int rank = 0;
  std::string host;
  int64_t first_unit = 0, end_unit = 0;  // sub-layers [first, end), three to a layer
  // peak_bytes: resident memory of the process, with its libraries and code; device_peak_bytes:
  // tensors and message buffers since the layers began to be read (of all ranks of a process).
  uint64_t weight_bytes = 0, buffer_bytes = 0, peak_bytes = 0, device_peak_bytes = 0;
  // Seconds of the rank's main thread; together `run_s`, apart from load_s.
  double load_s = 0, run_s = 0;
  double attention_s = 0, linear_s = 0, other_s = 0, solver_s = 0, send_s = 0, wait_s = 0,
         checkpoint_s = 0, idle_s = 0;
  // Of the rank that finishes blocks, beside the rest when there are several ranks.
  double store_s = 0, decode_s = 0, first_frames_s = 0;

  DispatchReport attention;  // of its attention workers
  // Attention of other ranks that it computed while it waited.
  int64_t served_tasks = 0;
  double served_s = 0;

  double busy_s() const { return run_s - wait_s - idle_s; }
};

std::string pack(const RankReport& report);  // JSON
RankReport unpack(const std::string& packed);

// Of the process that commits.
struct CommitReport {
  std::string latents_sha256;
  int64_t commits = 0, blocks = 0;
  double p50_s = 0, p99_s = 0;  // of one commit, beside denoising
};

// What the simulation of the plan said, with the rates that the layers were shared out by.
struct Predicted {
  double denoise_s = 0;   // until all ranks have done their instructions
  double idle_share = 0;  // of the ranks' time until then: waiting for messages
  double total_s = 0;     // until the last frame
  struct Rank {
    double busy_s = 0, peak_bytes = 0;
  };
  std::vector<Rank> per_rank;
};

struct RunReport {
  int ranks = 1, stages = 1, branches = 1, workers = 0;
  std::string device = "cpu", precision = "f32", isa;
  int threads = 1;
  int64_t frames = 0, blocks = 0, steps = 0, seed = 0;
  CommitReport commit;
  struct Seconds {
    double total = 0, load = 0, text = 0, denoise = 0, decode = 0, first_frames = 0;
  } seconds;
  std::vector<RankReport> per_rank;
  Predicted predicted;

  // Share of the ranks' time that was spent waiting or idle.
  double idle_share() const;
  double frames_per_second() const {
    return seconds.total > 0 ? static_cast<double>(frames) / seconds.total : 0;
  }
};

std::string to_json(const RunReport& report);
std::string to_text(const RunReport& report);
void write_report(const RunReport& report, const std::filesystem::path& run);

std::string pack(const CommitReport& report);  // JSON
CommitReport unpack_commits(const std::string& packed);

// The value that a share of them do not exceed; 0 of none.
double percentile(std::vector<double> values, double share);

uint64_t peak_resident_bytes();  // of this process so far
std::string host_name();

}  // namespace longtake
