// Between latents, frames and pixels.
#pragma once

#include <cstdint>

#include "kernels/base/tensor.h"

namespace longtake {

// Frame t of latents f32 [channels, frames, h, w]: a copy [channels, h, w].
OwnedTensor latent_frame(ConstTensor latents, int64_t t);

// frame f32 [height, width, 3] in [-1, 1] -> 8 bit, truncated as the reference does (wan.md 7).
void to_rgb(ConstTensor frame, uint8_t* rgb);

}  // namespace longtake
