// Configurations of weights without a config.json, from the shapes of their tensors
// (wan.md 2.5, 5.5).
#pragma once

#include <string>

#include "runtime/model/model_config.h"
#include "runtime/model/weights.h"

namespace longtake {

TransformerConfig transformer_config_from(const Weights& weights, const std::string& where);
VaeConfig vae_config_from(const Weights& weights, const std::string& where);
TextEncoderConfig text_encoder_config_from(const Weights& weights, const std::string& where);

// Fails by name for variants that need an image or another input than text.
void refuse_conditioned(const Weights& weights, const std::string& where);

// The released models' latent statistics for 16 (Wan 2.1) or 48 channels (Wan 2.2);
// wan.md 5.2, 5.4.
void set_released_latent_statistics(VaeConfig& config, const std::string& where);

}  // namespace longtake
