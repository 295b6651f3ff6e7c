// The attention workers of a run: a door at each rank, the address file that says where the doors
// are, and the workers that rank 0 starts itself.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "launch/job.h"
#include "parallel/attention/dispatcher.h"
#include "parallel/comm/comm.h"

namespace longtake {

// May workers join this run?
bool wants_workers(const RunConfig& config);

// The name of the file in a run folder.
constexpr const char* kWorkersFile = "workers.addr";

class RankWorkers {
 public:
  // Doors of the ranks that this process has: `first`, `first` + 1, ... `own`. Collective.
  RankWorkers(const Job& job, Comm& comm, const DispatchRules& rules, int first, int own);
  ~RankWorkers();

  AttentionDispatcher* dispatcher(int rank) {
    return doors_.at(static_cast<size_t>(rank - first_)).get();
  }
  // Starts the workers of this host (rank 0) and lets them and others find the doors.
  void start(int threads);
  // Says goodbye to all, waits for those that were started here, removes the file.
  void finish();

 private:
  const Job& job_;
  Comm& comm_;
  int first_;
  std::filesystem::path file_;
  AddressFile addresses_;  // complete on rank 0
  std::vector<std::unique_ptr<AttentionDispatcher>> doors_;
  std::vector<pid_t> children_;
};

}  // namespace longtake
