// The velocity of a latent under guidance: both branches through the expert that the timestep asks
// for (wan.md 1, 7). Holds one expert at a time; the text's keys are made once per expert.
#pragma once

#include <optional>

#include "kernels/base/stream.h"
#include "runtime/model/model_config.h"
#include "runtime/model/transformer.h"

namespace longtake {

// Text embeddings f32 [rows, text_dim]. `negative` is unused without guidance.
struct Conditions {
  OwnedTensor positive, negative;
};

struct Guidance {
  double scale = 5.0;               // v = u + scale (c - u); no unconditional branch at 1 or below
  std::optional<double> low_noise;  // of the second expert; default: scale
  std::optional<double> boundary_ratio;  // default: the model's
};

class Denoiser {
 public:
  Denoiser(const ModelFolder& folder, const Guidance& guidance, const Conditions& conditions,
           DType compute);

  // latent, velocity f32 [channels, frames, height, width].
  void velocity(ConstTensor latent, double timestep, Tensor velocity, StreamRef stream);

  // 0: the only or the high-noise expert, 1: the low-noise one.
  int expert_of(double timestep) const;
  size_t weight_bytes() const { return transformer_ ? transformer_->weight_bytes() : 0; }
  // Loads the expert of `timestep` if another is resident; velocity() does it by itself.
  void load(double timestep, StreamRef stream);
  // Of the last call, before they were combined; conditional first. For tests.
  const OwnedTensor& branch(int index) const { return branches_[index]; }

 private:
  double scale_of(int expert) const;
  void run_branch(const TextContext& text, const Modulation& modulation, ConstTensor latent,
                  Tensor velocity, StreamRef stream);

  const ModelFolder& folder_;
  Guidance guidance_;
  const Conditions& conditions_;
  DType compute_;
  int expert_ = -1;
  std::optional<Transformer> transformer_;
  TextContext positive_, negative_;
  OwnedTensor tokens_;  // f32 [tokens, dim]
  OwnedTensor branches_[2];
};

}  // namespace longtake
