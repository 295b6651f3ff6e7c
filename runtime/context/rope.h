// Rotary position embedding of latent tokens (wan.md 2.3): the channels of a head are split over
// time, rows and columns; positions are inputs, so a block can be placed anywhere in its attention
// window.
#pragma once

#include "kernels/base/tensor.h"

namespace longtake {

// Tokens of some latent frames: index = (frame * rows + row) * columns + column.
struct TokenGrid {
  int64_t frames = 0, rows = 0, columns = 0;

  int64_t per_frame() const { return rows * columns; }
  int64_t tokens() const { return frames * per_frame(); }
  bool operator==(const TokenGrid&) const = default;
};

struct RopeTable {
  OwnedTensor cosine, sine;  // f32 [tokens, head_dim / 2], angles computed in double
};

// Frames have the positions first_frame, first_frame + 1, ...; rows and columns start at 0.
RopeTable make_rope_table(int64_t head_dim, const TokenGrid& grid, int64_t first_frame);

}  // namespace longtake
