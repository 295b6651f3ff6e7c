// What the files of a model folder say about it: plain data, no branches on model names elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace longtake {

struct TransformerConfig {
  std::array<int64_t, 3> patch{1, 2, 2};  // frames, rows, columns
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  int64_t text_dim = 0;
  int64_t freq_dim = 256;
  int64_t ffn_dim = 0;
  int64_t layers = 0;
  float eps = 1e-6f;
  int64_t text_length = 512;

  int64_t dim() const { return heads * head_dim; }
};

struct TextEncoderConfig {
  int64_t vocab = 0;
  int64_t d_model = 0;
  int64_t d_kv = 0;
  int64_t heads = 0;
  int64_t d_ff = 0;
  int64_t layers = 0;
  int64_t buckets = 32;
  int64_t max_distance = 128;
  float eps = 1e-6f;
};

struct VaeConfig {
  int64_t base_dim = 96;
  int64_t decoder_base_dim = 96;
  int64_t z_dim = 16;
  std::vector<int64_t> dim_mult{1, 2, 4, 4};
  int64_t res_blocks = 2;
  std::vector<bool> temporal_downsample{false, true, true};
  bool residual = false;  // Wan 2.2: residual up- and downsampling
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t patch = 1;  // spatial patch of the pixels
  int64_t temporal_factor = 4;
  int64_t spatial_factor = 8;
  std::vector<float> latents_mean, latents_std;  // [z_dim]
};

struct SchedulerConfig {
  enum class Solver { unipc, euler };
  Solver solver = Solver::unipc;
  float shift = 3.0f;
};

// A model folder in diffusers layout, or original Wan files. Paths are folders or files that
// Weights can open; empty when the part is absent.
struct ModelFolder {
  std::filesystem::path root;
  std::string variant;  // "Wan2.1 T2V", "Wan2.2 T2V-A14B", "Wan2.2 TI2V-5B"
  std::filesystem::path transformer, transformer_2, vae, text_encoder, tokenizer;
  TransformerConfig transformer_config;
  std::optional<double> boundary_ratio;  // two experts: t >= 1000 boundary_ratio uses `transformer`
  bool expand_timesteps = false;         // one timestep per token
  std::optional<VaeConfig> vae_config;
  std::optional<TextEncoderConfig> text_encoder_config;
  SchedulerConfig scheduler;

  // Without VAE files (latents only) the factors of the released one that fits the variant.
  VaeConfig vae_or_released() const;
};

// Reads the configuration files and, where these are missing (original Wan files), the tensors'
// shapes. Fails with the file and key for anything unknown, absurd or of another family;
// image-conditioned variants are refused by name.
ModelFolder read_model_folder(const std::filesystem::path& folder);

// The parts alone, for instance a folder that holds only a transformer.
TransformerConfig read_transformer_config(const std::filesystem::path& path);
VaeConfig read_vae_config(const std::filesystem::path& path);
TextEncoderConfig read_text_encoder_config(const std::filesystem::path& path);

}  // namespace longtake
