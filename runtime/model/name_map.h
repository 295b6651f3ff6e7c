// Tensor names of original Wan files as diffusers (transformers) names: wan.md 2.5, 4.4, 5.5.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/weights.h"

namespace longtake {

// Drops the prefixes that single-file checkpoints put in front ("model.diffusion_model.", ...).
std::string_view without_prefix(std::string_view name);

// Which part of a model a file's names (without prefix) belong to, if any.
bool names_transformer(const std::vector<std::string>& names);
bool names_vae(const std::vector<std::string>& names);
bool names_text_encoder(const std::vector<std::string>& names);

// Translates one part's names, all at once because the VAE's flat lists of blocks are cut by what
// is in them. diffusers names and unknown names stay as they are. The result is parallel to
// `names`.
std::vector<std::string> diffusers_names(const std::vector<std::string>& names, WeightsOf part);

}  // namespace longtake
