// Latents to patches and back (wan.md 2.2.1, 2.2.8).
#pragma once

#include <array>
#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

struct PatchGrid {
  std::array<int64_t, 3> patch{1, 1, 1};      // frames, rows, columns of a patch
  int64_t frames = 0, rows = 0, columns = 0;  // patches
  int64_t tokens() const { return frames * rows * columns; }
  int64_t inside() const { return patch[0] * patch[1] * patch[2]; }
};

// latent f32 [channels, frames, height, width] -> patches f32 [tokens, channels * inside], within a
// patch [channel][frame][row][column].
void patchify(ConstTensor latent, const PatchGrid& grid, Tensor patches, StreamRef stream);

// patches f32 [tokens, inside * channels], within a patch [frame][row][column][channel] -> latent.
void unpatchify(ConstTensor patches, const PatchGrid& grid, Tensor latent, StreamRef stream);

}  // namespace longtake
