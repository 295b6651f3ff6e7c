// The split of sub-layers into stages: exact against all splits, and good enough for Wan.
#include "parallel/partition.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "tests/support/expect_error.h"

using namespace longtake;
using longtake::testing::error_of;
using longtake::testing::mentions;

namespace {

double largest(const std::vector<double>& costs) {
  return *std::max_element(costs.begin(), costs.end());
}

// The smallest maximum, by trying every split.
double best_by_trying(const std::vector<double>& units, EndCosts ends, int64_t stages) {
  double best = 1e300;
  std::vector<UnitRange> split;
  std::function<void(int64_t)> go = [&](int64_t begin) {
    const auto left = stages - static_cast<int64_t>(split.size());
    const auto all = static_cast<int64_t>(units.size());
    if (left == 0) {
      if (begin == all) best = std::min(best, largest(stage_costs(units, ends, split)));
      return;
    }
    for (int64_t end = begin + 1; end <= all; ++end) {
      split.push_back({begin, end});
      go(end);
      split.pop_back();
    }
  };
  go(0);
  return best;
}

struct WanSize {
  int64_t layers, dim, ffn, tokens_per_frame;
};
constexpr WanSize wan_1_3b_480p{30, 1536, 8960, 1560}, wan_14b_720p{40, 5120, 13824, 3600};

// Multiply-adds of one visit: own tokens as queries, prefix and suffix as further keys.
std::vector<double> wan_units(const WanSize& wan, int64_t block_frames, int64_t context_frames) {
  const auto d = static_cast<double>(wan.dim), text = 512.0;
  const auto tokens = static_cast<double>(block_frames * wan.tokens_per_frame);
  const auto keys = static_cast<double>((block_frames + 2 * context_frames) * wan.tokens_per_frame);
  const double self = tokens * (4 * d * d + 2 * d * keys);
  const double cross = tokens * (2 * d * d + 2 * d * text);
  const double feed_forward = tokens * 2 * d * static_cast<double>(wan.ffn);
  std::vector<double> out;
  for (int64_t layer = 0; layer < wan.layers; ++layer)
    out.insert(out.end(), {self, cross, feed_forward});
  return out;
}

EndCosts wan_ends(const WanSize& wan, int64_t block_frames) {
  const double cost = static_cast<double>(block_frames * wan.tokens_per_frame * 64 * wan.dim);
  return {cost, cost};
}

double wan_imbalance(const WanSize& wan, int64_t block, int64_t context, int64_t stages) {
  const auto units = wan_units(wan, block, context);
  const EndCosts ends = wan_ends(wan, block);
  return imbalance(stage_costs(units, ends, partition_units(units, ends, stages)));
}

}  // namespace

TEST_CASE("the split is contiguous, complete and the best of all") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 300; ++i) {
    std::vector<double> units(1 + random() % 10);
    for (double& cost : units) cost = static_cast<double>(random() % 20);
    const EndCosts ends{static_cast<double>(random() % 10), static_cast<double>(random() % 10)};
    const auto stages = static_cast<int64_t>(1 + random() % units.size());

    const auto split = partition_units(units, ends, stages);

    REQUIRE(static_cast<int64_t>(split.size()) == stages);
    int64_t next = 0;
    for (const UnitRange& range : split) {
      CHECK(range.begin == next);
      CHECK(range.end > range.begin);
      next = range.end;
    }
    CHECK(next == static_cast<int64_t>(units.size()));
    CHECK(largest(stage_costs(units, ends, split)) == best_by_trying(units, ends, stages));
  }
}

TEST_CASE("stages that do not decide the maximum are even too") {
  const std::vector<double> units{9, 1, 1, 1, 1};
  CHECK(partition_units(units, {}, 3) == std::vector<UnitRange>{{0, 1}, {1, 3}, {3, 5}});
}

TEST_CASE("the end stages give room for what they do beside") {
  const std::vector<double> units(12, 1.0);
  CHECK(partition_units(units, {3, 3}, 3) == std::vector<UnitRange>{{0, 3}, {3, 9}, {9, 12}});
  CHECK(stage_costs(units, {3, 4}, std::vector<UnitRange>{{0, 12}}) == std::vector<double>{19});
}

TEST_CASE("more stages than sub-layers are refused") {
  const std::vector<double> units(6, 1.0);
  const Error error = error_of([&] { partition_units(units, {}, 7); });
  CHECK(error.code() == ExitCode::usage);
  CHECK(mentions(error, "7 stages cannot share 6 sub-layers: expected 1 to 6 stages"));
  CHECK_THROWS_AS(partition_units(units, {}, 0), Error);
}

// One of 8 stages has at least 12 of the 90 sub-layers, and any 12 in a row are 4 whole layers
// whatever each costs: 4 / 3.75 of the mean. Cuts inside sub-layers would be needed for less. The
// ends are under 0.02 % of the work and shift the mean by that.
TEST_CASE("30 layers on 8 stages lose 6.7 %, cut between sub-layers or not") {
  const double floor = 4 / 3.75 - 1;
  for (const int64_t context : {0, 4, 8}) {
    const double lost = wan_imbalance(wan_1_3b_480p, 8, context, 8);
    MESSAGE("1.3B 480p, B 8, c " << context << ", 8 stages: " << 100 * lost << " %");
    CHECK(lost == doctest::Approx(floor).epsilon(0.005));
  }
  const std::vector<double> whole_layers(30, 1.0);
  CHECK(imbalance(stage_costs(whole_layers, {}, partition_units(whole_layers, {}, 8))) ==
        doctest::Approx(floor));
}

// 8 ranks as two branches of 4 stages: 7.5 layers each. The larger the share of self-attention
// (46, 59, 72 %), the coarser the cuts.
TEST_CASE("30 layers on 4 stages lose less than whole layers do") {
  const double whole = 8 / 7.5 - 1;
  const double short_block = wan_imbalance(wan_1_3b_480p, 2, 1, 4);
  const double middle = wan_imbalance(wan_1_3b_480p, 4, 2, 4);
  const double long_block = wan_imbalance(wan_1_3b_480p, 8, 4, 4);
  MESSAGE("1.3B 480p, 4 stages, B 2, 4, 8 and c = B / 2: "
          << 100 * short_block << ", " << 100 * middle << ", " << 100 * long_block << " %");
  CHECK(short_block < 0.02);
  CHECK(middle < 0.02);
  CHECK(long_block < whole / 2);
}

TEST_CASE("40 layers on 16 stages lose less than whole layers do") {
  const double whole = 3 / 2.5 - 1;
  const double lost = wan_imbalance(wan_14b_720p, 8, 4, 16);
  MESSAGE("14B 720p, B 8, c 4, 16 stages: " << 100 * lost << " %, whole layers " << 100 * whole);
  CHECK(lost < 0.6 * whole);
}
