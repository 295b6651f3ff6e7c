// A plan that was made, checked and simulated: what `longtake plan` shows.
#pragma once

#include <string>
#include <vector>

#include "launch/run_shape.h"
#include "parallel/plan/check.h"
#include "parallel/plan/simulate.h"

namespace longtake {

// A visit as the grid draws it.
struct PlannedVisit {
  int64_t rank, block;
  double begin, end;
};

struct PlanRank {
  double first_layer = 0, end_layer = 0;  // thirds are sub-layers; 0, 0: no model
  double weight_bytes = 0;
};

struct PlanWorker {
  std::string kind;
  int64_t tasks = 0;
  double bytes = 0;                 // both ways
  double busy_s = 0, hidden_s = 0;  // computing and moving; of that, behind work of the ranks
  double hidden_share() const { return busy_s > 0 ? hidden_s / busy_s : 1; }
};

struct PlanResult {
  std::string model, hardware;  // names for people
  bool slots = false;           // unit: slots of the uniform schedule, else seconds
  RunConfig config;
  PlanSpec plan;
  int64_t ranks = 0;  // asked for, without workers; mesh x videos are used
  int64_t workers = 0;
  std::string reason;       // why so many workers
  double alone_s = 0;       // with no workers and all devices; 0: not looked at
  int64_t frames = 0;       // of video; endless: those of the blocks that were simulated
  double block_frames = 0;  // video frames of a block
  double memory_bytes = 0;  // of a rank; 0: not known
  double workspace_bytes = 0;
  CheckReport check;
  Simulation simulation;
  int64_t sweeps = 0;
  // Endless: once all blocks are in flight, and the time between two of them.
  std::optional<double> steady_idle_share, steady_block_s;
  double planning_s = 0;  // making, checking and simulating
  std::vector<PlanRank> per_rank;
  std::vector<PlanWorker> per_worker;
  std::vector<PlannedVisit> visits;  // for the grid
  std::vector<std::string> advice;

  bool endless() const { return !plan.layout.total_frames; }
  // Equal pipelines side by side that the ranks are enough for.
  int64_t videos() const { return std::max<int64_t>(1, ranks / plan.mesh.ranks()); }
  // Of one video; endless: once all blocks are in flight, 0 if that was not simulated.
  double frames_per_second() const;
  double idle_share() const { return steady_idle_share.value_or(simulation.idle_share()); }
};

std::string to_text(const PlanResult& result);
std::string to_json(const PlanResult& result);
// Ranks by slots of the schedule, a letter for each block; 100 columns, at most 32 ranks.
std::string to_grid(const PlanResult& result);

}  // namespace longtake
