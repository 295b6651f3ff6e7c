// How many of a number of devices are stages and how many attention workers.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/plan/plan.h"

namespace longtake {

struct DeviceSplit {
  Mesh mesh;
  int64_t workers = 0;
  bool operator==(const DeviceSplit&) const = default;
};
std::string to_text(const DeviceSplit& split);  // "6 stages x 1 branch and 2 workers"

// What is given: the number of devices, how many of them can be stages, and perhaps more.
struct SplitQuestion {
  int64_t devices = 1, stage_devices = 1;
  int64_t most_stages = 1;  // layers cannot be cut into more
  std::optional<int64_t> stages, branches, workers;
};

// All that leave no device without work, stages x branches + workers = devices, and none of whose
// pipelines starves. Fewest workers first.
std::vector<DeviceSplit> device_splits(const PlanSpec& plan, const SplitQuestion& question);

// Workers must win by so much: a device does not do better as a worker than as a stage.
inline constexpr double worth_workers = 0.01;

struct WorkerPlan {
  DeviceSplit split;
  double seconds = 0, alone_s = 0;  // without workers
  int64_t tried = 0;
  std::string reason;
};

// The fastest of `splits` if it beats `alone`, which has no workers, by worth_workers. `seconds`
// says nothing for a split that does not fit the devices' memory. Of many splits only those that
// `estimate` puts first are looked at: it must order them about like `seconds`.
WorkerPlan choose_split(std::span<const DeviceSplit> splits, const DeviceSplit& alone,
                        const std::function<double(const DeviceSplit&)>& estimate,
                        const std::function<std::optional<double>(const DeviceSplit&)>& seconds);

}  // namespace longtake
