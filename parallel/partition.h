// Which sub-layers each stage computes. Cuts between sub-layers alone cannot balance everything: of
// 90 sub-layers on 8 stages some stage has 12 in a row, which are 4 whole layers, 6.7 % more than
// the mean. A rank that computes both guidance branches may therefore be cut at another sub-layer
// in each: they meet only in the solver, so nothing else changes, and only the sub-layers between
// the two cuts have their weights on both neighbours (30 layers on 8 stages: about 1 % lost).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace longtake {

// Sub-layers in order: unit 3 i is layer i's self-attention, 3 i + 1 its cross-attention, 3 i + 2
// its feed-forward. The first stage also embeds, the last also has the head.
struct UnitRange {
  int64_t begin = 0, end = 0;
  bool contains(int64_t unit) const { return begin <= unit && unit < end; }
  bool operator==(const UnitRange&) const = default;
};

// Of one stage, by guidance branch. The conditional cuts lie at or behind the unconditional ones.
struct StageUnits {
  UnitRange conditional, unconditional;

  StageUnits() = default;
  StageUnits(UnitRange both) : conditional(both), unconditional(both) {}
  StageUnits(UnitRange c, UnitRange u) : conditional(c), unconditional(u) {}
  // What the rank holds the weights of when it computes both branches.
  UnitRange hull() const {
    return {std::min(conditional.begin, unconditional.begin),
            std::max(conditional.end, unconditional.end)};
  }
  bool operator==(const StageUnits&) const = default;
};

// Sub-layers between the cuts of the two branches, at most: one layer.
inline constexpr int64_t most_skew = 3;

// What a stage costs beside its units.
struct EndCosts {
  double first = 0;  // embedding
  double last = 0;   // head, guidance, solver
};

// (Not `partition`: with vectors as arguments that would find std::partition.)
// The contiguous split with the smallest maximum (exact), and of those the one with the smallest
// sum of squares. unit_costs are of one branch; `branches` (1 or 2) is how many each rank computes:
// with 2 the cuts of the branches may differ by most_skew. Every stage gets a unit of every branch;
// fails with ExitCode::usage when there are too few.
std::vector<StageUnits> partition_units(std::span<const double> unit_costs, EndCosts ends,
                                        int64_t stages, int64_t branches);

// Cost of each stage.
std::vector<double> stage_costs(std::span<const double> unit_costs, EndCosts ends,
                                std::span<const StageUnits> stages, int64_t branches);

// Slowest stage over the mean, minus 1: the share of time that the split loses.
double imbalance(std::span<const double> stage_costs);

}  // namespace longtake
