#include "parallel/partition.h"

#include <functional>
#include <limits>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Where the two branches are cut: the unconditional one `skew` sub-layers earlier.
struct Cut {
  size_t end = 0, skew = 0;
};

// Costs of all runs of units on all stages, from running sums.
class RunCosts {
 public:
  RunCosts(std::span<const double> units, EndCosts ends, int64_t stages, int64_t branches)
      : ends_(ends),
        stages_(static_cast<size_t>(stages)),
        skews_(branches == 2 ? static_cast<size_t>(most_skew) + 1 : 1),
        branches_(branches),
        sums_(1, 0.0) {
    for (const double cost : units) sums_.push_back(sums_.back() + cost);
  }
  size_t units() const { return sums_.size() - 1; }
  size_t stages() const { return stages_; }
  size_t skews() const { return skews_; }
  double of(size_t stage, const UnitRange& conditional, const UnitRange& unconditional) const {
    double out = run(conditional);
    if (branches_ == 2) out += run(unconditional);
    if (stage == 0) out += ends_.first;
    if (stage + 1 == stages_) out += ends_.last;
    return out;
  }

 private:
  double run(const UnitRange& r) const {
    return sums_[static_cast<size_t>(r.end)] - sums_[static_cast<size_t>(r.begin)];
  }

  EndCosts ends_;
  size_t stages_, skews_;
  int64_t branches_;
  std::vector<double> sums_;  // [units + 1]
};

StageUnits between(Cut from, Cut to) {
  const auto range = [](size_t begin, size_t end) {
    return UnitRange{static_cast<int64_t>(begin), static_cast<int64_t>(end)};
  };
  return {range(from.end, to.end), range(from.end - from.skew, to.end - to.skew)};
}

struct BestSplit {
  double value = infinity;
  std::vector<StageUnits> stages;
};

// Dynamic programme over (stage, cut behind it): the smallest join(earlier stages, this run); of
// equals the one with the least skew and the shortest earlier part.
class SplitSearch {
 public:
  using Join = std::function<double(double, double)>;
  SplitSearch(const RunCosts& costs, const Join& join)
      : costs_(costs),
        join_(join),
        cuts_((costs.units() + 1) * costs.skews()),
        value_((costs.stages() + 1) * cuts_, infinity),
        before_((costs.stages() + 1) * cuts_) {}

  BestSplit run() {
    const size_t units = costs_.units(), stages = costs_.stages();
    value_[0] = 0;
    for (size_t stage = 1; stage <= stages; ++stage)
      for (size_t end = stage; end <= units; ++end)
        for (size_t skew = 0; skew < costs_.skews() && skew < end; ++skew)
          if ((stage == stages) == (end == units) && (stage < stages || skew == 0))
            settle(stage, {end, skew});
    BestSplit out{value_[at(stages, {units, 0})], std::vector<StageUnits>(stages)};
    Cut end{units, 0};
    for (size_t stage = stages; stage > 0; --stage) {
      const Cut begin = before_[at(stage, end)];
      out.stages[stage - 1] = between(begin, end);
      end = begin;
    }
    return out;
  }

 private:
  size_t at(size_t stage, Cut cut) const {
    return stage * cuts_ + cut.end * costs_.skews() + cut.skew;
  }
  // Finds the best cut before this one.
  void settle(size_t stage, Cut end) {
    double& best = value_[at(stage, end)];
    const size_t most = stage == 1 ? 1 : costs_.skews();
    for (size_t skew = 0; skew < most; ++skew)
      for (size_t begin = skew; begin < end.end && begin - skew < end.end - end.skew; ++begin) {
        const double earlier = value_[at(stage - 1, {begin, skew})];
        if (earlier == infinity) continue;
        const StageUnits units = between({begin, skew}, end);
        const double joined =
            join_(earlier, costs_.of(stage - 1, units.conditional, units.unconditional));
        if (joined >= best) continue;
        best = joined;
        before_[at(stage, end)] = {begin, skew};
      }
  }

  const RunCosts& costs_;
  const Join& join_;
  size_t cuts_;
  std::vector<double> value_;  // [stages + 1, cuts]
  std::vector<Cut> before_;
};

BestSplit best_split(const RunCosts& costs, const SplitSearch::Join& join) {
  return SplitSearch(costs, join).run();
}

}  // namespace

std::vector<StageUnits> partition_units(std::span<const double> unit_costs, EndCosts ends,
                                        int64_t stages, int64_t branches) {
  const auto units = static_cast<int64_t>(unit_costs.size());
  if (stages < 1 || stages > units)
    fail(ExitCode::usage, "{} stages cannot share {} sub-layers: expected 1 to {} stages", stages,
         units, units);
  LT_CHECK(branches == 1 || branches == 2, "a rank computes 1 or 2 branches, not {}", branches);
  for (const double cost : unit_costs)
    LT_CHECK(cost >= 0 && cost < infinity, "a sub-layer cannot cost {}", cost);
  const RunCosts costs(unit_costs, ends, stages, branches);
  const auto larger = [](double before, double run) { return std::max(before, run); };
  const double maximum = best_split(costs, larger).value;
  const auto squares = [&](double before, double run) {
    return run <= maximum ? before + run * run : infinity;
  };
  return best_split(costs, squares).stages;
}

std::vector<double> stage_costs(std::span<const double> unit_costs, EndCosts ends,
                                std::span<const StageUnits> stages, int64_t branches) {
  const RunCosts costs(unit_costs, ends, static_cast<int64_t>(stages.size()), branches);
  std::vector<double> out;
  for (const StageUnits& stage : stages)
    out.push_back(costs.of(out.size(), stage.conditional, stage.unconditional));
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
