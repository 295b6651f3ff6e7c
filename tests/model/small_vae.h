// Decoders of random weights with two levels, in the plain and in the residual form with patches.
#pragma once

#include <string>

#include "launch/bench/random_vae.h"
#include "runtime/model/vae_tiles.h"
#include "tests/support/random.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {

struct SmallVae {
  // Without attention a picture depends on its latents only as far as `kReach`.
  explicit SmallVae(bool residual, bool attention = true);

  ScratchFolder folder;
  VaeConfig config;
  VaeDecoder decoder;

  // Latents that matter for a pixel are at most this many positions away: conv_in 1, middle 4,
  // first level 4; at twice the resolution upsampling 1, second level 4, head 1.
  static constexpr int64_t kReach = 12;
};

// Slow waves, f32 [frames, z, h, w].
OwnedTensor smooth_latents(const VaeConfig& config, int64_t frames, int64_t h, int64_t w);

// Pictures f32 [frames, height, width, 3], `step` latent frames at a time.
OwnedTensor pictures(TiledVaeDecoder& decoder, const VaeConfig& config, ConstTensor latents,
                     int64_t step, StreamRef stream);
OwnedTensor whole_pictures(SmallVae& vae, ConstTensor latents);

}  // namespace longtake::testing
