// The schedule as a picture of letters: what each rank does in each slot.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "launch/plan_result.h"

namespace longtake {

namespace {

constexpr int64_t kColumns = 92;  // of 100, the rest names the rank
constexpr int64_t kMostRanks = 32;

char letter(int64_t block) {
  constexpr char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return letters[block % static_cast<int64_t>(sizeof letters - 1)];
}

// Columns of `width` time each, from `begin` on. A column shows the block that takes most of it,
// '.' where the rank is idle for the larger part.
std::vector<std::string> draw(const PlanResult& r, double begin, double width, int64_t columns) {
  const int64_t ranks = std::min(kMostRanks, r.plan.mesh.ranks());
  const auto cells = static_cast<size_t>(columns);
  std::vector<std::string> rows(static_cast<size_t>(ranks), std::string(cells, '.'));
  std::vector<std::vector<double>> most(rows.size(), std::vector<double>(cells, 0)), busy = most;
  for (const PlannedVisit& v : r.visits) {
    const double from = (v.begin - begin) / width, to = (v.end - begin) / width;
    if (v.rank >= ranks || to <= 0 || from >= static_cast<double>(columns)) continue;
    const auto row = static_cast<size_t>(v.rank);
    const auto last = std::min(static_cast<double>(columns), std::ceil(to));
    for (auto c = static_cast<size_t>(std::max(0.0, std::floor(from)));
         static_cast<double>(c) < last; ++c) {
      const double at = static_cast<double>(c);
      const double share = std::min(to, at + 1) - std::max(from, at);
      busy[row][c] += share;
      if (share <= most[row][c]) continue;
      most[row][c] = share;
      rows[row][c] = letter(v.block);
    }
  }
  for (size_t row = 0; row < rows.size(); ++row)
    for (size_t c = 0; c < cells; ++c)
      if (busy[row][c] < 0.5 - 1e-9) rows[row][c] = '.';
  return rows;
}

}  // namespace

std::string to_grid(const PlanResult& r) {
  const double makespan = r.simulation.makespan_s;
  std::string out;
  std::vector<std::string> rows;
  if (!r.slots) {
    const double width = std::max(makespan, 1e-300) / static_cast<double>(kColumns);
    rows = draw(r, 0, width, kColumns);
    out = fmt::format("a column is {:.4g} s; a letter is a block, . idle\n", width);
  } else if (const auto slots = static_cast<int64_t>(makespan); slots <= kColumns) {
    rows = draw(r, 0, 1, slots);
    out = "a column is a slot; a letter is a block, . idle\n";
  } else {
    constexpr int64_t half = (kColumns - 4) / 2;
    rows = draw(r, 0, 1, half);
    const std::vector<std::string> end = draw(r, static_cast<double>(slots - half), 1, half);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] += " .. " + end[i];
    out = fmt::format(
        "a column is a slot, the first and the last {} of {}; a letter is a block, "
        ". idle\n",
        half, slots);
  }
  for (size_t i = 0; i < rows.size(); ++i) out += fmt::format("r{:<4} |{}|\n", i, rows[i]);
  if (r.plan.mesh.ranks() > kMostRanks)
    out += fmt::format("{} more ranks\n", r.plan.mesh.ranks() - kMostRanks);
  return out;
}

}  // namespace longtake
