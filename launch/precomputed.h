// Input that replaces a part of the model: text embeddings (--prompt-embeds) and noise (--noise).
#pragma once

#include <filesystem>

#include "kernels/base/tensor.h"
#include "runtime/model/model_config.h"
#include "runtime/model/safetensors.h"

namespace longtake {

// Keys text.0, text.1, ... and uncond: f32 [rows, text_dim], at most text_length rows.
class PrecomputedText {
 public:
  PrecomputedText(const std::filesystem::path& path, const TransformerConfig& config);
  OwnedTensor prompt(int64_t index) const;
  OwnedTensor negative() const;

 private:
  OwnedTensor read(const std::string& key) const;
  SafetensorsFile file_;
  int64_t most_rows_, width_;
};

// Key noise.<block>: f32 of exactly `shape` [channels, frames, h, w].
OwnedTensor read_noise(const std::filesystem::path& path, int64_t block, const Shape& shape);

}  // namespace longtake
