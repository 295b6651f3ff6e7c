#include "parallel/attention/head_loads.h"

#include <algorithm>
#include <limits>

namespace longtake {

HeadLoads::HeadLoads(std::span<const BranchWork> branches, std::span<const WorkerRate> workers)
    : branches_(branches), workers_(workers) {
  for (size_t b = 0; b < branches.size(); ++b)
    for (const HeadWork& head : branches[b].heads)
      heads_.push_back({b, &head, branches[b].queries, heads_.size()});
  places_.resize(heads_.size());
  for (const WorkerRate& worker : workers) {
    auto& all = resident_.emplace_back();
    for (const auto& of_branch : worker.resident)
      all.insert(all.end(), of_branch.begin(), of_branch.end());
    all.resize(heads_.size());
  }
  for (size_t i = 0; i < heads_.size(); ++i)
    for (size_t k = 0; k < i && heads_[i].twin == i; ++k)
      if (alike(i, k)) heads_[i].twin = k;
  settle();
}

bool HeadLoads::alike(size_t i, size_t k) const {
  const auto same_keys = [&](const std::vector<bool>& resident) {
    return resident[i] == resident[k];
  };
  return heads_[i].branch == heads_[k].branch && *heads_[i].work == *heads_[k].work &&
         std::all_of(resident_.begin(), resident_.end(), same_keys);
}

double HeadLoads::bytes(size_t i, LoadedPlace at) const {
  if (at.rows == 0) return 0;
  const LoadedHead& head = heads_[i];
  const double share = static_cast<double>(at.rows) / static_cast<double>(head.queries);
  const bool there = resident_[static_cast<size_t>(at.worker)][i];
  return share * (head.work->query_bytes + head.work->answer_bytes) +
         (there ? 0 : head.work->key_bytes);
}

// Adds a remote head to its worker, or takes it away.
void HeadLoads::count(size_t i, LoadedPlace at, int sign) {
  if (at.rows == 0) return;
  const WorkerRate& worker = workers_[static_cast<size_t>(at.worker)];
  const LoadedHead& head = heads_[i];
  const double share = static_cast<double>(at.rows) / static_cast<double>(head.queries);
  Load& load = sums_.work[static_cast<size_t>(at.worker) * branches_.size() + head.branch];
  load.compute_s += sign * share * head.work->seconds / worker.speed;
  load.transfer_s += sign * (worker.latency_s + bytes(i, at) / worker.bandwidth);
  load.tasks += sign;
  sums_.bytes += sign * bytes(i, at);
}

double HeadLoads::work(int worker, size_t branch) const {
  const Load& load = sums_.work[static_cast<size_t>(worker) * branches_.size() + branch];
  if (load.tasks == 0) return 0;
  if (!workers_[static_cast<size_t>(worker)].overlap) return load.compute_s + load.transfer_s;
  return std::max(load.compute_s, load.transfer_s) +
         load.transfer_s / static_cast<double>(load.tasks);
}

bool HeadLoads::usable(int worker) const {
  const WorkerRate& rate = workers_[static_cast<size_t>(worker)];
  return rate.speed > 0 && rate.bandwidth > 0;
}

void HeadLoads::put(size_t i, LoadedPlace to) {
  const LoadedPlace from = places_[i];
  const LoadedHead& head = heads_[i];
  count(i, from, -1);
  count(i, to, 1);
  sums_.rank_s += head.work->seconds * static_cast<double>(from.rows - to.rows) /
                  static_cast<double>(head.queries);
  sums_.cuts[head.branch] -= cut(i) ? 1 : 0;
  places_[i] = to;
  sums_.cuts[head.branch] += cut(i) ? 1 : 0;
}

void HeadLoads::settle() {
  const std::vector<LoadedPlace> places = places_;
  put_all(places);
}

void HeadLoads::put_all(const std::vector<LoadedPlace>& places) {
  sums_.work.assign(workers_.size() * branches_.size(), {});
  sums_.cuts.assign(branches_.size(), 0);
  sums_.rank_s = sums_.bytes = 0;
  for (const BranchWork& branch : branches_) sums_.rank_s += branch.own_s;
  for (size_t i = 0; i < places.size(); ++i) {
    places_[i] = {};
    sums_.rank_s += heads_[i].work->seconds;
    put(i, places[i]);
  }
}

double HeadLoads::worker_s(int worker) const {
  double all = 0;
  for (size_t b = 0; b < branches_.size(); ++b) all += work(worker, b);
  return all;
}

double HeadLoads::worker_bound(int worker, double end) const {
  double bound = worker_s(worker) / end;
  for (size_t b = 0; b < branches_.size(); ++b) {
    const double seconds = work(worker, b);
    if (seconds > 0) bound = std::max(bound, branches_[b].own_s + seconds / end);
  }
  return bound;
}

double HeadLoads::seconds() const {
  double most = sums_.rank_s;
  for (int w = 0; w < workers(); ++w) most = std::max(most, worker_bound(w));
  return most;
}

// The rank's own work is left, and all work shared without loss takes no longer.
double HeadLoads::floor_s() const {
  double own = 0, all = 0, rate = 1;
  for (const BranchWork& branch : branches_) own += branch.own_s;
  for (const LoadedHead& head : heads_) all += head.work->seconds;
  for (int w = 0; w < workers(); ++w)
    if (usable(w)) rate += planned_end * workers_[static_cast<size_t>(w)].speed;
  return std::max(own, (own + all) / rate);
}

double HeadLoads::sum_of_squares() const {
  double sum = sums_.rank_s * sums_.rank_s;
  for (int w = 0; w < workers(); ++w) sum += worker_bound(w) * worker_bound(w);
  return sum;
}

}  // namespace longtake
