// The layers of a VAE decoder as data: for random weights and for counting operations.
#pragma once

#include <vector>

#include "launch/bench/random_weights.h"

namespace longtake {

// A convolution and how often it runs for a latent frame of h x w that is not the first of a video:
// at frames * area * h * w positions.
struct VaeConv {
  std::string name;
  Shape shape;  // of the weight
  int64_t area = 1, frames = 1;
  bool in_time = false;  // left out for the first latent frame
};

std::vector<VaeConv> vae_decoder_convs(const VaeConfig& config);
std::vector<RandomTensor> vae_decoder_tensors(const VaeConfig& config);

// Floating-point operations of decoding `latent_frames` frames of h x w positions.
double vae_decoder_flops(const VaeConfig& config, int64_t latent_frames, int64_t h, int64_t w);

}  // namespace longtake
