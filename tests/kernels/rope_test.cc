// Angles of the rotary embedding: the check numbers of the Wan models and what follows from the
// formula position * 10000^(-2 i / channels).
#include <doctest/doctest.h>

#include <cmath>

#include "runtime/context/rope.h"

namespace longtake::testing {
namespace {

// The table holds rounded cosines and sines: 2^-24 each, twice to allow for the angles below.
constexpr double kRounding = 0x1p-23;

void check_angle(const RopeTable& table, int64_t token, int64_t pair, double angle, double known) {
  CAPTURE(token);
  CAPTURE(pair);
  const int64_t at = token * table.cosine.dim(1) + pair;
  CHECK(std::abs(table.cosine.as<float>()[at] - std::cos(angle)) < known + kRounding);
  CHECK(std::abs(table.sine.as<float>()[at] - std::sin(angle)) < known + kRounding);
}

}  // namespace

TEST_CASE("rope: the check numbers of head size 128 at frame 3, row 5, column 7") {
  const TokenGrid grid{5, 6, 9};

  const RopeTable table = make_rope_table(128, grid, 0);

  CHECK(table.cosine.shape() == Shape({5 * 6 * 9, 64}));
  CHECK(table.sine.shape() == Shape({5 * 6 * 9, 64}));
  const int64_t token = (3 * 6 + 5) * 9 + 7;
  // 44 channels of time, 42 of rows, 42 of columns; angles are known to 8 decimals.
  const std::pair<int64_t, double> angles[] = {
      {0, 3.0},  {1, 1.97379967},      {21, 0.00045597},
      {22, 5.0}, {22 + 1, 3.22473339}, {22 + 20, 0.00077526},
      {43, 7.0}, {43 + 1, 4.51462674}, {43 + 20, 0.00108536}};
  for (const auto& [pair, angle] : angles) check_angle(table, token, pair, angle, 5e-9);
}

TEST_CASE("rope: channels are split over time, rows and columns for any head size") {
  // head size -> channels of time; rows and columns share the rest.
  const std::pair<int64_t, int64_t> sizes[] = {{12, 4}, {24, 8}, {16, 8}, {64, 24}, {128, 44}};
  const TokenGrid grid{2, 3, 4};
  for (const auto& [head_dim, time] : sizes) {
    CAPTURE(head_dim);

    const RopeTable table = make_rope_table(head_dim, grid, 0);

    const int64_t space = (head_dim - time) / 2;
    const int64_t token = (1 * 3 + 2) * 4 + 3;  // frame 1, row 2, column 3
    const auto angle = [](double position, int64_t i, int64_t channels) {
      return position *
             std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(channels));
    };
    for (int64_t i = 0; i < time / 2; ++i) check_angle(table, token, i, angle(1, i, time), 0);
    for (int64_t i = 0; i < space / 2; ++i) {
      check_angle(table, token, time / 2 + i, angle(2, i, space), 0);
      check_angle(table, token, (time + space) / 2 + i, angle(3, i, space), 0);
    }
  }
}

TEST_CASE("rope: a block may be placed at any frame; large positions stay exact") {
  const TokenGrid long_grid{1000, 1, 2}, grid{3, 1, 2};

  const RopeTable whole = make_rope_table(24, long_grid, 0);
  const RopeTable part = make_rope_table(24, grid, 900);

  for (int64_t i = 0; i < part.cosine.numel(); ++i) {
    const int64_t at = 900 * 2 * 12 + i;
    CHECK(part.cosine.as<float>()[i] == whole.cosine.as<float>()[at]);
    CHECK(part.sine.as<float>()[i] == whole.sine.as<float>()[at]);
  }
  check_angle(part, 2 * 2, 0, 902.0, 0);
}

TEST_CASE("rope: frames before the block have negative positions") {
  const RopeTable table = make_rope_table(12, {2, 1, 1}, -1);

  check_angle(table, 0, 0, -1.0, 0);
  check_angle(table, 1, 0, 0.0, 0);
}

}  // namespace longtake::testing
