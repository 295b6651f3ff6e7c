// Which sub-layers each stage owns. Cuts between sub-layers rather than layers keep the slowest
// stage closer to the mean (1.3B on 4 stages: 1 to 3 % lost instead of 6.7 %), but not always: a
// stage with 3 k sub-layers has k layers, so 30 layers on 8 stages lose 6.7 % either way.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longtake {

// Sub-layers in order: unit 3 i is layer i's self-attention, 3 i + 1 its cross-attention, 3 i + 2
// its feed-forward. The first stage also embeds, the last also has the head.
struct UnitRange {
  int64_t begin = 0, end = 0;
  bool operator==(const UnitRange&) const = default;
};

// What a stage costs beside its units.
struct EndCosts {
  double first = 0;  // embedding
  double last = 0;   // head, guidance, solver
};

// (Not `partition`: with vectors as arguments that would find std::partition.)
// The contiguous split with the smallest maximum (exact), and of those the one with the smallest
// sum of squares. Every stage gets a unit; fails with ExitCode::usage when there are too few.
std::vector<UnitRange> partition_units(std::span<const double> unit_costs, EndCosts ends,
                                       int64_t stages);

// Cost of each stage.
std::vector<double> stage_costs(std::span<const double> unit_costs, EndCosts ends,
                                std::span<const UnitRange> stages);

// Slowest stage over the mean, minus 1: the share of time that the split loses.
double imbalance(std::span<const double> stage_costs);

}  // namespace longtake
