// Latents to patches and back: one thread an element of the patches.
#pragma once

#include "kernels/cuda/elementwise_args.h"

namespace longtake::cuda {

struct PatchElement {
  int64_t in_patches, in_latent;
};

// Element `i` of dense patches; within a patch the channel is the slowest or the fastest index.
template <bool channel_first>
__device__ __forceinline__ PatchElement patch_element(const PatchArgs& a, int64_t i) {
  const int64_t inside = a.patch[0] * a.patch[1] * a.patch[2];
  const int64_t token = i / (a.channels * inside), within = i % (a.channels * inside);
  const int64_t channel = channel_first ? within / inside : within % a.channels;
  const int64_t place = channel_first ? within % inside : within / a.channels;
  const int64_t t = token / (a.rows * a.columns), r = token / a.columns % a.rows;
  const int64_t frame = t * a.patch[0] + place / (a.patch[1] * a.patch[2]);
  const int64_t row = r * a.patch[1] + place / a.patch[2] % a.patch[1];
  const int64_t column = token % a.columns * a.patch[2] + place % a.patch[2];
  const int64_t height = a.rows * a.patch[1], width = a.columns * a.patch[2];
  const int64_t latent_frame = channel * a.frames * a.patch[0] + frame;
  return {token * a.patch_stride + within, (latent_frame * height + row) * width + column};
}

constexpr int kPatchThreads = 256;

static __global__ void __launch_bounds__(kPatchThreads) patchify_kernel(PatchArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kPatchThreads + static_cast<int>(threadIdx.x);
  if (i >= a.count()) return;
  const PatchElement e = patch_element<true>(a, i);
  a.to[e.in_patches] = a.from[e.in_latent];
}

static __global__ void __launch_bounds__(kPatchThreads) unpatchify_kernel(PatchArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kPatchThreads + static_cast<int>(threadIdx.x);
  if (i >= a.count()) return;
  const PatchElement e = patch_element<false>(a, i);
  a.to[e.in_latent] = a.from[e.in_patches];
}

}  // namespace longtake::cuda
