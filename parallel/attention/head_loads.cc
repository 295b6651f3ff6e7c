#include "parallel/attention/head_loads.h"

#include <algorithm>
#include <limits>

namespace longtake {

HeadLoads::HeadLoads(std::span<const BranchWork> branches, std::span<const WorkerRate> workers)
    : branches_(branches), workers_(workers), cuts_(branches.size()) {
  for (size_t b = 0; b < branches.size(); ++b) {
    rank_s_ += branches[b].own_s;
    for (const HeadWork& head : branches[b].heads) {
      heads_.push_back({b, &head, branches[b].queries, heads_.size()});
      rank_s_ += head.seconds;
    }
  }
  places_.resize(heads_.size());
  work_.assign(workers.size() * branches.size(), 0.0);
  for (const WorkerRate& worker : workers) {
    auto& all = resident_.emplace_back();
    for (const auto& of_branch : worker.resident)
      all.insert(all.end(), of_branch.begin(), of_branch.end());
    all.resize(heads_.size());
  }
  for (size_t i = 0; i < heads_.size(); ++i)
    for (size_t k = 0; k < i && heads_[i].twin == i; ++k)
      if (alike(i, k)) heads_[i].twin = k;
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

double HeadLoads::remote_seconds(size_t i, LoadedPlace at) const {
  if (at.rows == 0) return 0;
  const WorkerRate& worker = workers_[static_cast<size_t>(at.worker)];
  const LoadedHead& head = heads_[i];
  const double share = static_cast<double>(at.rows) / static_cast<double>(head.queries);
  if (worker.speed == 0 || worker.bandwidth == 0) return std::numeric_limits<double>::infinity();
  return worker.latency_s + bytes(i, at) / worker.bandwidth +
         share * head.work->seconds / worker.speed;
}

// Sums are made anew where a head leaves, so that no rounding is left behind.
void HeadLoads::put(size_t i, LoadedPlace to) {
  const LoadedPlace from = places_[i];
  if (from == to) return;
  cuts_[heads_[i].branch] -= cut(i) ? 1 : 0;
  places_[i] = to;
  cuts_[heads_[i].branch] += cut(i) ? 1 : 0;
  const size_t branches = branches_.size(), branch = heads_[i].branch;
  const auto load = [&](int worker) -> double& {
    return work_[static_cast<size_t>(worker) * branches + branch];
  };
  if (to.rows > 0) load(to.worker) += remote_seconds(i, to);
  if (from.rows > 0) {
    double sum = 0;
    for (size_t k = 0; k < heads_.size(); ++k)
      if (heads_[k].branch == branch && places_[k].rows > 0 && places_[k].worker == from.worker)
        sum += remote_seconds(k, places_[k]);
    load(from.worker) = sum;
  }
  const double rows = static_cast<double>(heads_[i].queries);
  rank_s_ += heads_[i].work->seconds * static_cast<double>(from.rows - to.rows) / rows;
}

void HeadLoads::put_all(const std::vector<LoadedPlace>& places) {
  for (size_t i = 0; i < places.size(); ++i) put(i, places[i]);
}

double HeadLoads::worker_s(int worker) const {
  double all = 0;
  for (size_t b = 0; b < branches_.size(); ++b)
    all += work_[static_cast<size_t>(worker) * branches_.size() + b];
  return all;
}

double HeadLoads::worker_bound(int worker, double end) const {
  double bound = worker_s(worker) / end;
  for (size_t b = 0; b < branches_.size(); ++b) {
    const double work = work_[static_cast<size_t>(worker) * branches_.size() + b];
    if (work > 0) bound = std::max(bound, branches_[b].own_s + work / end);
  }
  return bound;
}

double HeadLoads::seconds() const {
  double most = rank_s_;
  for (int w = 0; w < workers(); ++w) most = std::max(most, worker_bound(w));
  return most;
}

double HeadLoads::sum_of_squares() const {
  double sum = rank_s_ * rank_s_;
  for (int w = 0; w < workers(); ++w) sum += worker_bound(w) * worker_bound(w);
  return sum;
}

double HeadLoads::bytes() const {
  double sum = 0;
  for (size_t i = 0; i < heads_.size(); ++i) sum += bytes(i, places_[i]);
  return sum;
}

}  // namespace longtake
