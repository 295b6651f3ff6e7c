#include "parallel/attention/quota.h"

#include <algorithm>

namespace longtake {

namespace {

BranchWork work_of(const MeasuredCall& call, double pace_s) {
  const double row = static_cast<double>(call.head_dim * call.element_bytes);
  const double queries = static_cast<double>(call.queries), keys = static_cast<double>(call.keys);
  const HeadWork head{pace_s * queries * keys * static_cast<double>(call.head_dim), queries * row,
                      2 * keys * row, queries * row};
  return {call.own_s, call.queries, std::vector<HeadWork>(static_cast<size_t>(call.heads), head)};
}

std::optional<WorkerRate> rate_of(const MeasuredWorker& worker, double pace_s) {
  if (worker.work <= 0 || worker.kernel_s <= 0) return std::nullopt;
  WorkerRate rate;
  rate.id = worker.id;
  rate.speed = pace_s * worker.work / worker.kernel_s;
  // Faster than can be measured counts as that.
  constexpr double kLeast_s = 1e-6;
  rate.bandwidth = worker.bytes / std::max(kLeast_s, worker.transfer_s);
  rate.overlap = true;
  return rate;
}

}  // namespace

void Quota::plan(const std::vector<MeasuredCall>& branches, double pace_s,
                 const std::vector<MeasuredWorker>& workers) {
  std::vector<BranchWork> work;
  for (const MeasuredCall& call : branches) work.push_back(work_of(call, pace_s));
  std::vector<WorkerRate> rates;
  for (const MeasuredWorker& worker : workers)
    if (const auto rate = rate_of(worker, pace_s)) rates.push_back(*rate);
  if (work.empty() || rates.empty()) return plan_.reset();
  const Balance next = balance(work, rates, plan_ ? &plan_->heads : nullptr);
  if (plan_ && next.heads != plan_->heads) ++changes_;
  plan_ = next;
}

bool Quota::gives(int branch, int64_t head, int worker) const {
  if (!plan_ || branch < 0 || static_cast<size_t>(branch) >= plan_->heads.size()) return false;
  const auto& heads = plan_->heads[static_cast<size_t>(branch)];
  return static_cast<size_t>(head) < heads.size() &&
         heads[static_cast<size_t>(head)].worker == worker;
}

}  // namespace longtake
