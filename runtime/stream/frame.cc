#include "runtime/stream/frame.h"

#include <algorithm>
#include <cstring>

namespace longtake {

OwnedTensor latent_frame(ConstTensor latents, int64_t t) {
  LT_CHECK(latents.rank() == 4 && 0 <= t && t < latents.dim(1), "frame {} of latents {}", t,
           latents.shape.text());
  const int64_t channels = latents.dim(0), frames = latents.dim(1),
                plane = latents.dim(2) * latents.dim(3);
  OwnedTensor out(DType::f32, {channels, latents.dim(2), latents.dim(3)});
  for (int64_t c = 0; c < channels; ++c)
    std::memcpy(out.as<float>() + c * plane, latents.as<float>() + (c * frames + t) * plane,
                static_cast<size_t>(plane) * sizeof(float));
  return out;
}

void to_rgb(ConstTensor frame, uint8_t* rgb) {
  const float* x = frame.as<float>();
  for (int64_t i = 0; i < frame.numel(); ++i)
    rgb[i] = static_cast<uint8_t>(std::clamp(x[i] / 2 + 0.5f, 0.0f, 1.0f) * 255.0f);
}

}  // namespace longtake
