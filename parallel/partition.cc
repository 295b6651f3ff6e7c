#include "parallel/partition.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Costs of all runs of units on all stages, from running sums.
class RunCosts {
 public:
  RunCosts(std::span<const double> units, EndCosts ends, int64_t stages)
      : ends_(ends), stages_(stages), sums_(1, 0.0) {
    for (const double cost : units) sums_.push_back(sums_.back() + cost);
  }
  int64_t units() const { return static_cast<int64_t>(sums_.size()) - 1; }
  int64_t stages() const { return stages_; }
  double of(int64_t stage, int64_t begin, int64_t end) const {
    double out = sums_[static_cast<size_t>(end)] - sums_[static_cast<size_t>(begin)];
    if (stage == 0) out += ends_.first;
    if (stage == stages_ - 1) out += ends_.last;
    return out;
  }

 private:
  EndCosts ends_;
  int64_t stages_;
  std::vector<double> sums_;  // [units + 1]
};

struct BestSplit {
  double value = infinity;
  std::vector<UnitRange> ranges;
};

// Dynamic programme over (stage, units used): the smallest join(earlier stages, this run); of
// equals the one with the shortest earlier part.
BestSplit best_split(const RunCosts& costs, const std::function<double(double, double)>& join) {
  const auto units = static_cast<size_t>(costs.units()),
             stages = static_cast<size_t>(costs.stages());
  std::vector<std::vector<double>> value(stages + 1, std::vector<double>(units + 1, infinity));
  std::vector<std::vector<size_t>> cut(stages + 1, std::vector<size_t>(units + 1, 0));
  value[0][0] = 0;
  for (size_t stage = 1; stage <= stages; ++stage)
    for (size_t end = stage; end <= units; ++end)
      for (size_t begin = stage - 1; begin < end; ++begin) {
        const double run = costs.of(static_cast<int64_t>(stage) - 1, static_cast<int64_t>(begin),
                                    static_cast<int64_t>(end));
        const double joined = join(value[stage - 1][begin], run);
        if (joined >= value[stage][end]) continue;
        value[stage][end] = joined;
        cut[stage][end] = begin;
      }
  BestSplit out{value[stages][units], std::vector<UnitRange>(stages)};
  for (size_t stage = stages, end = units; stage > 0; end = cut[stage--][end])
    out.ranges[stage - 1] = {static_cast<int64_t>(cut[stage][end]), static_cast<int64_t>(end)};
  return out;
}

}  // namespace

std::vector<UnitRange> partition_units(std::span<const double> unit_costs, EndCosts ends,
                                       int64_t stages) {
  const auto units = static_cast<int64_t>(unit_costs.size());
  if (stages < 1 || stages > units)
    fail(ExitCode::usage, "{} stages cannot share {} sub-layers: expected 1 to {} stages", stages,
         units, units);
  for (const double cost : unit_costs)
    LT_CHECK(cost >= 0 && cost < infinity, "a sub-layer cannot cost {}", cost);
  const RunCosts costs(unit_costs, ends, stages);
  const auto larger = [](double before, double run) { return std::max(before, run); };
  const double maximum = best_split(costs, larger).value;
  const auto squares = [&](double before, double run) {
    return run <= maximum ? before + run * run : infinity;
  };
  return best_split(costs, squares).ranges;
}

std::vector<double> stage_costs(std::span<const double> unit_costs, EndCosts ends,
                                std::span<const UnitRange> stages) {
  const RunCosts costs(unit_costs, ends, static_cast<int64_t>(stages.size()));
  std::vector<double> out;
  for (const UnitRange& range : stages)
    out.push_back(costs.of(static_cast<int64_t>(out.size()), range.begin, range.end));
  return out;
}

double imbalance(std::span<const double> stage_costs) {
  double sum = 0, largest = 0;
  for (const double cost : stage_costs) {
    sum += cost;
    largest = std::max(largest, cost);
  }
  return sum > 0 ? largest * static_cast<double>(stage_costs.size()) / sum - 1 : 0;
}

}  // namespace longtake
