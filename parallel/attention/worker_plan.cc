#include "parallel/attention/worker_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr size_t kMostTried = 40;

std::string counted(int64_t n, const char* one, const char* many) {
  return fmt::format("{} {}", n, n == 1 ? one : many);
}

// Without those that the estimate puts last.
std::vector<DeviceSplit> promising(std::span<const DeviceSplit> splits,
                                   const std::function<double(const DeviceSplit&)>& estimate) {
  std::vector<DeviceSplit> out(splits.begin(), splits.end());
  if (out.size() <= kMostTried) return out;
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < out.size(); ++i) order.emplace_back(estimate(out[i]), i);
  std::sort(order.begin(), order.end());
  std::vector<DeviceSplit> first;
  for (size_t i = 0; i < kMostTried; ++i) first.push_back(out[order[i].second]);
  return first;
}

std::string share_text(double seconds, double than) {
  return fmt::format("{:.1f} % {}", 100 * std::abs(seconds / than - 1),
                     seconds < than ? "less" : "more");
}

}  // namespace

std::string to_text(const DeviceSplit& s) {
  std::string out = counted(s.mesh.stages, "stage", "stages") + " x " +
                    counted(s.mesh.branches, "branch", "branches");
  if (s.workers > 0) out += " and " + counted(s.workers, "worker", "workers");
  return out;
}

std::vector<DeviceSplit> device_splits(const PlanSpec& plan, const SplitQuestion& q) {
  LT_CHECK(q.devices >= 1 && q.stage_devices >= 1 && q.stage_devices <= q.devices,
           "expected devices, at least one of them for a stage, found {} and {}", q.devices,
           q.stage_devices);
  const int64_t depth =
      std::min(useful_depth(plan.steps, plan.stagger, plan.layout.blocks()), q.most_stages);
  std::vector<DeviceSplit> out;
  for (const int64_t branches : {1, 2}) {
    if (branches == 2 && !plan.guided) continue;
    if (q.branches.value_or(branches) != branches) continue;
    for (int64_t stages = 1; stages <= depth && stages * branches <= q.stage_devices; ++stages) {
      if (q.stages.value_or(stages) != stages) continue;
      const DeviceSplit split{{stages, branches}, q.devices - stages * branches};
      if (q.workers.value_or(split.workers) == split.workers) out.push_back(split);
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const DeviceSplit& a, const DeviceSplit& b) {
    return a.workers < b.workers;
  });
  return out;
}

WorkerPlan choose_split(std::span<const DeviceSplit> splits, const DeviceSplit& alone,
                        const std::function<double(const DeviceSplit&)>& estimate,
                        const std::function<std::optional<double>(const DeviceSplit&)>& seconds) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  WorkerPlan out;
  const std::optional<double> without = seconds(alone);
  out.split = alone;
  out.seconds = out.alone_s = without.value_or(kNever);
  DeviceSplit best;
  double least = kNever;
  for (const DeviceSplit& split : promising(splits, estimate)) {
    if (split.workers == 0) continue;
    ++out.tried;
    const double taken = seconds(split).value_or(kNever);
    if (taken < least) least = taken, best = split;
  }
  if (out.tried == 0)
    out.reason = "no device is left for a worker";
  else if (least == kNever)
    out.reason = "with fewer stages, weights and features do not fit the memory of a device";
  else if (least >= (1 - worth_workers) * out.alone_s)
    out.reason = fmt::format("the best split with workers, {}, would take {} than {} without",
                             to_text(best), share_text(least, out.alone_s), to_text(alone));
  else
    out.reason = without ? fmt::format("{} take {} than {} without workers", to_text(best),
                                       share_text(least, out.alone_s), to_text(alone))
                         : fmt::format("{} do not fit the memory", to_text(alone));
  if (least < (1 - worth_workers) * out.alone_s) out.split = best, out.seconds = least;
  return out;
}

}  // namespace longtake
