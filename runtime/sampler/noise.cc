#include "runtime/sampler/noise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

namespace longtake {

namespace {

std::array<uint32_t, 2> key_of(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

// Last word of the counter: what the numbers are for.
enum Domain : uint32_t { kNormal = 0, kShuffle = 1 };

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return c;
}

void normal_frame(uint64_t seed, uint32_t template_frame, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; i += 4) {
    const auto index = static_cast<uint64_t>(i / 4);
    const auto u = philox(
        {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), template_frame, kNormal},
        key_of(seed));
    float z[4];
    for (size_t pair = 0; pair < 2; ++pair) {  // Box-Muller in double
      const double a = (u[2 * pair] + 0.5) * 0x1p-32, b = (u[2 * pair + 1] + 0.5) * 0x1p-32;
      const double radius = std::sqrt(-2.0 * std::log(a)), angle = 2.0 * std::numbers::pi * b;
      z[2 * pair] = static_cast<float>(radius * std::cos(angle));
      z[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
    }
    std::memcpy(out + i, z,
                static_cast<size_t>(std::min<int64_t>(4, elements - i)) * sizeof(float));
  }
}

NoisePool::NoisePool(uint64_t seed, int64_t block_frames, int64_t overlap)
    : seed_(seed), block_frames_(block_frames), overlap_(overlap) {
  LT_CHECK(block_frames >= 1 && 0 <= overlap, "noise pool of {} frames with an overlap of {}",
           block_frames, overlap);
}

// T <- last `overlap` of T, then a shuffle of its first block_frames; once for every block, 0
// included.
void NoisePool::advance() {
  ++block_;
  std::vector<int64_t> next(pool_.end() - overlap_, pool_.end());
  std::vector<int64_t> rest(pool_.begin(), pool_.begin() + block_frames_);
  for (size_t i = rest.size() - 1; i > 0; --i) {  // Fisher-Yates
    const auto u = philox({static_cast<uint32_t>(i), static_cast<uint32_t>(block_),
                           static_cast<uint32_t>(static_cast<uint64_t>(block_) >> 32), kShuffle},
                          key_of(seed_));
    const uint64_t wide = (uint64_t{u[1]} << 32) | u[0];
    std::swap(rest[i], rest[static_cast<size_t>(wide % (i + 1))]);
  }
  next.insert(next.end(), rest.begin(), rest.end());
  pool_ = std::move(next);
}

std::vector<int64_t> NoisePool::template_frames(int64_t block) {
  if (block_ < 0 || block < block_) {
    block_ = -1;
    pool_.resize(static_cast<size_t>(block_frames_ + overlap_));
    std::iota(pool_.begin(), pool_.end(), 0);
  }
  while (block_ < block) advance();
  return {pool_.begin() + (block > 0 ? overlap_ : 0), pool_.end()};
}

void NoisePool::fill(int64_t block, Tensor noise) {
  LT_CHECK(noise.rank() == 4, "noise has the shape [channels, frames, height, width], not {}",
           noise.shape.text());
  const std::vector<int64_t> frames = template_frames(block);
  const int64_t channels = noise.dim(0), count = noise.dim(1), plane = noise.dim(2) * noise.dim(3);
  LT_CHECK(count <= static_cast<int64_t>(frames.size()), "block {} has at most {} frames, not {}",
           block, frames.size(), count);
  std::vector<float> frame(static_cast<size_t>(channels * plane));
  for (int64_t f = 0; f < count; ++f) {
    normal_frame(seed_, static_cast<uint32_t>(frames[static_cast<size_t>(f)]), channels * plane,
                 frame.data());
    for (int64_t c = 0; c < channels; ++c)
      std::memcpy(noise.as<float>() + (c * count + f) * plane, frame.data() + c * plane,
                  static_cast<size_t>(plane) * sizeof(float));
  }
}

}  // namespace longtake
