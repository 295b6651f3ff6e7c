#include "parallel/attention/balance.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"
#include "parallel/attention/head_loads.h"

namespace longtake {

namespace {

void check_amount(const char* what, double value) {
  LT_CHECK(value >= 0 && std::isfinite(value), "balance: {}: expected 0 or more, found {}", what,
           value);
}

void check_worker(const WorkerRate& worker, std::span<const BranchWork> branches) {
  LT_CHECK(worker.id >= 0, "balance: expected ids of workers from 0 on, found {}", worker.id);
  check_amount("speed of a worker", worker.speed);
  check_amount("bandwidth of a worker", worker.bandwidth);
  check_amount("latency of a worker", worker.latency_s);
  if (worker.resident.empty()) return;
  bool fits = worker.resident.size() == branches.size();
  for (size_t b = 0; fits && b < branches.size(); ++b)
    fits = worker.resident[b].size() == branches[b].heads.size();
  LT_CHECK(fits, "balance: worker {}: expected residency of every head of {} branches", worker.id,
           branches.size());
}

void check(std::span<const BranchWork> branches, std::span<const WorkerRate> workers) {
  for (const BranchWork& branch : branches) {
    check_amount("the rank's own work", branch.own_s);
    LT_CHECK(branch.queries >= 1, "balance: expected at least one query row, found {}",
             branch.queries);
    for (const HeadWork& head : branch.heads) {
      check_amount("seconds of a head", head.seconds);
      for (const double bytes : {head.query_bytes, head.key_bytes, head.answer_bytes})
        check_amount("bytes of a head", bytes);
    }
  }
  for (size_t i = 0; i < workers.size(); ++i) {
    check_worker(workers[i], branches);
    for (size_t k = 0; k < i; ++k)
      LT_CHECK(workers[k].id != workers[i].id, "balance: worker {} is given twice", workers[i].id);
  }
}

// The map with indices of workers; nothing if it does not fit.
std::optional<std::vector<LoadedPlace>> indexed(std::span<const BranchWork> branches,
                                                std::span<const WorkerRate> workers,
                                                const HeadMap& heads) {
  std::vector<LoadedPlace> out;
  if (heads.size() != branches.size()) return std::nullopt;
  for (size_t b = 0; b < branches.size(); ++b) {
    if (heads[b].size() != branches[b].heads.size()) return std::nullopt;
    int64_t cuts = 0;
    for (const HeadPlace& place : heads[b]) {
      if (place.worker == HeadPlace::kLocal && place.rows == 0) {
        out.emplace_back();
        continue;
      }
      const auto at = std::find_if(workers.begin(), workers.end(),
                                   [&](const WorkerRate& w) { return w.id == place.worker; });
      const bool whole = place.rows == branches[b].queries;
      const bool fits = place.rows > 0 && place.rows <= branches[b].queries;
      if (at == workers.end() || at->speed == 0 || at->bandwidth == 0) return std::nullopt;
      if (!fits || (!whole && place.rows % cut_rows != 0)) return std::nullopt;
      if (!whole && ++cuts > 1) return std::nullopt;
      out.push_back({static_cast<int>(at - workers.begin()), place.rows});
    }
  }
  return out;
}

WorkerShare share_of(const HeadLoads& loads, int index, int id) {
  WorkerShare share;
  share.worker = id;
  for (size_t i = 0; i < loads.size(); ++i) {
    if (loads.place(i).rows == 0 || loads.place(i).worker != index) continue;
    ++share.tasks;
    share.bytes += loads.bytes(i, loads.place(i));
  }
  share.seconds = loads.worker_s(index);
  const double exposed = std::max(0.0, loads.worker_bound(index, 1.0) - loads.rank_s());
  if (share.seconds > 0) share.hidden_share = std::max(0.0, 1 - exposed / share.seconds);
  return share;
}

Balance described(std::span<const BranchWork> branches, std::span<const WorkerRate> workers,
                  const HeadLoads& loads) {
  Balance out;
  size_t i = 0;
  for (const BranchWork& branch : branches) {
    out.alone_s += branch.own_s;
    auto& places = out.heads.emplace_back();
    for (const HeadWork& head : branch.heads) {
      out.alone_s += head.seconds;
      const LoadedPlace& at = loads.place(i++);
      places.push_back(at.rows == 0
                           ? HeadPlace{}
                           : HeadPlace{workers[static_cast<size_t>(at.worker)].id, at.rows});
    }
  }
  for (int w = 0; w < loads.workers(); ++w) {
    const WorkerShare share = share_of(loads, w, workers[static_cast<size_t>(w)].id);
    if (share.tasks > 0) out.shares.push_back(share);
  }
  out.rank_s = out.uses_workers() ? loads.rank_s() : out.alone_s;
  out.seconds = out.uses_workers() ? loads.seconds() : out.alone_s;
  return out;
}

}  // namespace

std::optional<Balance> weigh(std::span<const BranchWork> branches,
                             std::span<const WorkerRate> workers, const HeadMap& heads) {
  check(branches, workers);
  const auto places = indexed(branches, workers, heads);
  if (!places) return std::nullopt;
  HeadLoads loads(branches, workers);
  loads.put_all(*places);
  return described(branches, workers, loads);
}

Balance balance(std::span<const BranchWork> branches, std::span<const WorkerRate> workers,
                const HeadMap* previous) {
  check(branches, workers);
  HeadLoads loads(branches, workers);
  find_best(loads);
  Balance best = described(branches, workers, loads);
  if (!previous) return best;
  std::optional<Balance> old = weigh(branches, workers, *previous);
  if (!old || old->seconds > old->alone_s) return best;
  return best.seconds < (1 - balance_hysteresis) * old->seconds ? best : std::move(*old);
}

}  // namespace longtake
