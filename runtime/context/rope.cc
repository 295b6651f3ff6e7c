#include "runtime/context/rope.h"

#include <cmath>
#include <vector>

namespace longtake {

namespace {

// cos and sin of position * 10000^(-2 i / channels) for every position and pair i.
struct AxisTable {
  int64_t pairs;
  std::vector<float> cosine, sine;  // [positions, pairs]

  AxisTable(int64_t channels, int64_t first, int64_t positions) : pairs(channels / 2) {
    for (int64_t p = 0; p < positions; ++p)
      for (int64_t i = 0; i < pairs; ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(channels);
        const double angle = static_cast<double>(first + p) * std::pow(10000.0, exponent);
        cosine.push_back(static_cast<float>(std::cos(angle)));
        sine.push_back(static_cast<float>(std::sin(angle)));
      }
  }

  void copy(int64_t position, float* cosine_to, float* sine_to) const {
    for (int64_t i = 0; i < pairs; ++i) {
      cosine_to[i] = cosine[static_cast<size_t>(position * pairs + i)];
      sine_to[i] = sine[static_cast<size_t>(position * pairs + i)];
    }
  }
};

}  // namespace

RopeTable make_rope_table(int64_t head_dim, const TokenGrid& grid, int64_t first_frame) {
  const int64_t space = 2 * (head_dim / 6), time = head_dim - 2 * space;
  const AxisTable t(time, first_frame, grid.frames), h(space, 0, grid.rows),
      w(space, 0, grid.columns);
  const int64_t half = head_dim / 2;
  RopeTable out{OwnedTensor(DType::f32, {grid.tokens(), half}),
                OwnedTensor(DType::f32, {grid.tokens(), half})};
  float* cosine = out.cosine.as<float>();
  float* sine = out.sine.as<float>();
  for (int64_t f = 0; f < grid.frames; ++f)
    for (int64_t r = 0; r < grid.rows; ++r)
      for (int64_t c = 0; c < grid.columns; ++c, cosine += half, sine += half) {
        t.copy(f, cosine, sine);
        h.copy(r, cosine + t.pairs, sine + t.pairs);
        w.copy(c, cosine + t.pairs + h.pairs, sine + t.pairs + h.pairs);
      }
  return out;
}

}  // namespace longtake
