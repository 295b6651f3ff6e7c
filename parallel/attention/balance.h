// Which heads of a layer's self-attention a rank computes itself and which it sends to attention
// workers. The guidance branches of a rank take turns, so that one's remote heads are hidden behind
// the other's work. With m = planned_end, of a worker's time W, and W_b for branch b alone, the
// layer takes, for all branches together,
//   max(rank's own work, W / m of each worker, own work of b + W_b / m of each worker and b):
// no worker has more to do than there is time, and an answer is awaited when the turn comes to its
// branch again. With one branch only the local heads of the same call are left to hide behind.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace longtake {

// Remote work is planned to end at this share of the time there is: when it ends earlier little is
// lost, when it ends later every layer waits.
inline constexpr double planned_end = 0.875;
// A map of heads is only given up for one that is so much better.
inline constexpr double balance_hysteresis = 0.12;
// One head of a call may be cut at a multiple of so many query rows.
inline constexpr int64_t cut_rows = 128;

struct HeadWork {
  double seconds = 0;  // on the rank
  double query_bytes = 0, key_bytes = 0, answer_bytes = 0;
  bool operator==(const HeadWork&) const = default;
};

// One layer in one branch: a call.
struct BranchWork {
  double own_s = 0;     // what only the rank can do
  int64_t queries = 0;  // rows
  std::vector<HeadWork> heads;
};

struct WorkerRate {
  int id = 0;            // 0 or more, each once
  double speed = 1;      // of attention, in that of the rank; 0: none
  double bandwidth = 0;  // bytes/s, both ways together; 0: cannot be reached
  double latency_s = 0;  // of a task, there and back
  // Moves one task while it computes another: of a call only one task's transfer is then left bare.
  bool overlap = false;
  // [branches][heads]: has the keys; empty: of no head.
  std::vector<std::vector<bool>> resident;
};

// Query rows [0, rows) of a head are the worker's, the others the rank's.
struct HeadPlace {
  static constexpr int kLocal = -1;
  int worker = kLocal;
  int64_t rows = 0;
  bool operator==(const HeadPlace&) const = default;
};
using HeadMap = std::vector<std::vector<HeadPlace>>;  // [branches][heads]

struct WorkerShare {
  int worker = 0;
  int64_t tasks = 0;
  double seconds = 0;       // computing and moving
  double bytes = 0;         // both ways, without resident keys
  double hidden_share = 1;  // of `seconds`, behind the rank's own work
};

struct Balance {
  HeadMap heads;
  double seconds = 0;               // of the layer, all branches
  double alone_s = 0;               // without workers
  double rank_s = 0;                // the rank's own work
  std::vector<WorkerShare> shares;  // of the workers that have something to do
  bool uses_workers() const { return !shares.empty(); }
};

// Never slower than alone; no workers where that is best. `previous` is kept unless the new map is
// better by balance_hysteresis, it names a worker that is gone, does not fit the calls, or is
// slower than no workers. Equal input gives an equal result.
Balance balance(std::span<const BranchWork> branches, std::span<const WorkerRate> workers,
                const HeadMap* previous = nullptr);

// The seconds, shares and bytes of a given map; nothing if it does not fit.
std::optional<Balance> weigh(std::span<const BranchWork> branches,
                             std::span<const WorkerRate> workers, const HeadMap& heads);

}  // namespace longtake
