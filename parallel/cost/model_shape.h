// Plain numbers of a diffusion transformer and of one of its visits: all that its cost depends on.
#pragma once

#include <cstdint>

namespace longtake {

// Tokens of a usual prompt. Padding up to the model's text length costs as much as one more.
inline constexpr int64_t usual_text_rows = 32;

struct ModelShape {
  int64_t layers = 0;
  int64_t dim = 0;
  int64_t heads = 0;
  int64_t ffn = 0;
  int64_t text_rows = usual_text_rows;  // keys of cross-attention
  int64_t text_dim = 4096;
  int64_t freq_dim = 256;
  int64_t in_channels = 16, out_channels = 16;
  int64_t patch_rows = 2, patch_columns = 2;
  int64_t experts = 1;                // whole sets of weights, both in memory
  int64_t dtype_bytes = 2;            // of weights and activations; the residual stream is f32
  double decode_flops_per_frame = 0;  // VAE, of a latent frame; 0: the run does not decode
  double decode_bytes = 0;            // its weights, what it keeps of past frames, and its frames
  int64_t latent_rows = 0, latent_columns = 0;  // of the video

  int64_t tokens_per_frame() const {
    return latent_rows / patch_rows * (latent_columns / patch_columns);
  }
  int64_t patch() const { return patch_rows * patch_columns; }
};

// One forward of one branch.
struct VisitShape {
  int64_t tokens = 0;  // queries: own frames and a latent prefix
  int64_t keys = 0;    // of self-attention: tokens and cached context
};

}  // namespace longtake
