// The attention workers of a run: a door at each rank, the address file that says where the doors
// are, and the workers that rank 0 starts itself.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "launch/attention_service.h"
#include "launch/job.h"
#include "parallel/attention/dispatcher.h"
#include "parallel/comm/comm.h"

namespace longtake {

// May workers, or ranks that wait, compute attention of this run?
bool wants_workers(const RunConfig& config, int64_t ranks);

// The name of the file in a run folder.
constexpr const char* kWorkersFile = "workers.addr";

struct RankAttention {
  AttentionDispatcher* workers = nullptr;  // computes for the rank
  AttentionService* service = nullptr;     // the rank computes for others
};

class RankWorkers {
 public:
  // Doors of the ranks that this process has: `first`, `first` + 1, ... `own`. Collective.
  RankWorkers(const Job& job, Comm& comm, const DispatchRules& rules, int first, int own);
  ~RankWorkers();

  // What a rank has to do with workers.
  RankAttention of_rank(int rank);
  // Starts the workers of this host (rank 0) and lets them and others find the doors.
  void start(int threads);
  // Says goodbye to all, waits for those that were started here, removes the file.
  void finish();

 private:
  const Job& job_;
  Comm& comm_;
  int first_;
  std::filesystem::path file_;
  AddressFile addresses_;
  std::vector<std::unique_ptr<AttentionDispatcher>> doors_;
  std::vector<std::unique_ptr<AttentionService>> services_;  // as the doors, or none
  std::vector<pid_t> children_;
};

}  // namespace longtake
