// The noise that a video starts from. Any rank can make any block's noise: the generator is
// counter-based (Philox 4x32-10) and keyed by seed, template frame and element, and blocks draw on
// a pool of template frames (DualParal, arXiv 2505.21070): each new block takes the last `overlap`
// frames of the block before it and a seeded shuffle of the others.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/base/tensor.h"

namespace longtake {

// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Element i of template frame f is normal number i % 4 of the counter (i / 4 low, i / 4 high, f,
// 0).
void normal_frame(uint64_t seed, uint32_t template_frame, int64_t elements, float* out);

class NoisePool {
 public:
  NoisePool(uint64_t seed, int64_t block_frames, int64_t overlap);

  // Template frames of block 0 (at most block_frames + overlap of them) or a later block (at most
  // block_frames), in order.
  std::vector<int64_t> template_frames(int64_t block);

  // noise f32 [channels, frames, height, width] of a block.
  void fill(int64_t block, Tensor noise);

 private:
  void advance();

  uint64_t seed_;
  int64_t block_frames_, overlap_;
  int64_t block_ = -1;         // whose pool this is; blocks are asked for in order, mostly
  std::vector<int64_t> pool_;  // template frames
};

}  // namespace longtake
