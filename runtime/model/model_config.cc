#include "runtime/model/model_config.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "runtime/model/config_file.h"
#include "runtime/model/config_from_tensors.h"
#include "runtime/model/config_limits.h"
#include "runtime/model/weights.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void refuse(const ConfigFile& file, const std::string& found) {
  fail(ExitCode::bad_data,
       "{}: this is {}; expected a text-to-video model: Wan2.1 T2V, Wan2.2 "
       "T2V-A14B or Wan2.2 TI2V-5B",
       file.where(), found);
}

// Folder or file: where its config.json would be.
fs::path config_path(const fs::path& path) {
  return (fs::is_directory(path) ? path : path.parent_path()) / "config.json";
}

void check_channels(const ConfigFile& file, const TransformerConfig& c) {
  if (c.in_channels == 36) refuse(file, "Wan2.2 I2V-A14B (image to video)");
  if (c.in_channels != c.out_channels)
    refuse(file,
           fmt::format("a model with {} channels in and {} out, conditioned on more than text",
                       c.in_channels, c.out_channels));
  if (c.head_dim % 2 != 0 || c.freq_dim % 2 != 0)
    fail(ExitCode::bad_data, "{}: expected an even head size and freq_dim, found {} and {}",
         file.where(), c.head_dim, c.freq_dim);
}

TransformerConfig diffusers_transformer(const ConfigFile& file) {
  if (file.has("pos_embed_seq_len")) refuse(file, "Wan2.1 FLF2V (first and last frame to video)");
  if (file.has("image_dim") || file.has("added_kv_proj_dim"))
    refuse(file, "Wan2.1 I2V (image to video)");
  file.only("patch_size", {1, 2, 2});
  file.only("qk_norm", "rms_norm_across_heads");
  file.only("cross_attn_norm", true);
  TransformerConfig c;
  c.heads = file.integer("num_attention_heads", 1, kMostHeads);
  c.head_dim = file.integer("attention_head_dim", 2, kMostHeadDim);
  c.in_channels = file.integer("in_channels", 1, kMostChannels);
  c.out_channels = file.integer("out_channels", 1, kMostChannels);
  c.text_dim = file.integer("text_dim", 1, kMostWidth);
  c.freq_dim = file.integer("freq_dim", 2, kMostWidth, 256);
  c.ffn_dim = file.integer("ffn_dim", 1, kMostWidth);
  c.layers = file.integer("num_layers", 1, kMostLayers);
  c.eps = static_cast<float>(file.number("eps", 1e-12, 0.1, 1e-6));
  return c;
}

// The original file says neither the text width nor the patch: these come from the tensors.
TransformerConfig original_transformer(const ConfigFile& file, const fs::path& path) {
  const Weights weights(path, WeightsOf::transformer);
  refuse_conditioned(weights, path.string());
  const std::string type = file.text("model_type", "t2v");
  if (type != "t2v" && type != "ti2v") refuse(file, "a model of type \"" + type + "\"");
  TransformerConfig c;
  const int64_t dim = file.integer("dim", 2, kMostWidth);
  c.heads = file.integer("num_heads", 1, kMostHeads);
  if (dim % c.heads != 0)
    fail(ExitCode::bad_data, "{}: dim {} cannot be split into {} heads", file.where(), dim,
         c.heads);
  c.head_dim = dim / c.heads;
  c.in_channels = file.integer("in_dim", 1, kMostChannels);
  c.out_channels = file.integer("out_dim", 1, kMostChannels);
  c.freq_dim = file.integer("freq_dim", 2, kMostWidth, 256);
  c.ffn_dim = file.integer("ffn_dim", 1, kMostWidth);
  c.layers = file.integer("num_layers", 1, kMostLayers);
  c.eps = static_cast<float>(file.number("eps", 1e-12, 0.1, 1e-6));
  c.text_length = file.integer("text_len", 1, kMostTokens, 512);
  const Shape text = weights.shape("condition_embedder.text_embedder.linear_1.weight");
  if (text.rank() != 2 || text[1] < 1 || text[1] > kMostWidth)
    fail(ExitCode::bad_data, "{}: expected a matrix for text_embedding.0.weight, found {}",
         path.string(), text.text());
  c.text_dim = text[1];
  return c;
}

void check_factors(const ConfigFile& file, const VaeConfig& c) {
  if (c.temporal_downsample.size() + 1 != c.dim_mult.size())
    fail(ExitCode::bad_data,
         "{}: expected one value less in \"temperal_downsample\" than in "
         "\"dim_mult\", found {} and {}",
         file.where(), c.temporal_downsample.size(), c.dim_mult.size());
  const int64_t spatial = (int64_t{1} << (c.dim_mult.size() - 1)) * c.patch;
  const int64_t temporal =
      int64_t{1} << std::count(c.temporal_downsample.begin(), c.temporal_downsample.end(), true);
  if (spatial != c.spatial_factor || temporal != c.temporal_factor)
    fail(ExitCode::bad_data,
         "{}: expected scale_factor_spatial {} and scale_factor_temporal {} for "
         "these levels, found {} and {}",
         file.where(), spatial, temporal, c.spatial_factor, c.temporal_factor);
  const int64_t colours = 3 * c.patch * c.patch;
  if (c.in_channels != colours || c.out_channels != colours)
    fail(ExitCode::bad_data, "{}: expected {} channels in and out, found {} and {}", file.where(),
         colours, c.in_channels, c.out_channels);
}

void read_latent_statistics(const ConfigFile& file, VaeConfig& c) {
  if (!file.has("latents_mean") && !file.has("latents_std"))
    return set_released_latent_statistics(c, file.where());
  c.latents_mean = file.floats("latents_mean", -1e6, 1e6);
  c.latents_std = file.floats("latents_std", 1e-6, 1e6);
  const auto z = static_cast<size_t>(c.z_dim);
  if (c.latents_mean.size() != z || c.latents_std.size() != z)
    fail(ExitCode::bad_data,
         "{}: expected {} values in latents_mean and latents_std, found {} and "
         "{}",
         file.where(), z, c.latents_mean.size(), c.latents_std.size());
}

VaeConfig diffusers_vae(const ConfigFile& file) {
  file.only("attn_scales", nlohmann::json::array());
  VaeConfig c;
  c.base_dim = file.integer("base_dim", 1, kMostChannels, 96);
  c.decoder_base_dim = file.integer("decoder_base_dim", 1, kMostChannels, c.base_dim);
  c.z_dim = file.integer("z_dim", 1, kMostChannels, 16);
  if (file.has("dim_mult")) c.dim_mult = file.integers("dim_mult", 1, 64);
  if (c.dim_mult.empty() || c.dim_mult.size() > static_cast<size_t>(kMostLevels))
    file.reject("dim_mult", fmt::format("1 to {} levels", kMostLevels));
  c.res_blocks = file.integer("num_res_blocks", 1, kMostLayers, 2);
  if (file.has("temperal_downsample")) c.temporal_downsample = file.booleans("temperal_downsample");
  c.residual = file.boolean("is_residual", false);
  c.patch = file.integer("patch_size", 1, 16, 1);
  c.in_channels = file.integer("in_channels", 1, kMostChannels, 3);
  c.out_channels = file.integer("out_channels", 1, kMostChannels, 3);
  c.temporal_factor = file.integer("scale_factor_temporal", 1, 256, 4);
  c.spatial_factor = file.integer("scale_factor_spatial", 1, 4096, 8);
  check_factors(file, c);
  read_latent_statistics(file, c);
  return c;
}

void check_video_vae(const Weights& weights, const std::string& where) {
  const Shape shape = weights.shape("decoder.conv_in.weight");
  if (shape.rank() != 5)
    fail(ExitCode::bad_data,
         "{}: expected a video VAE with 5 dimensions in decoder.conv_in.weight, "
         "found {}: an image-only variant",
         where, shape.text());
}

}  // namespace

TransformerConfig read_transformer_config(const fs::path& path) {
  const fs::path config = config_path(path);
  if (!fs::exists(config))
    return transformer_config_from(Weights(path, WeightsOf::transformer), path.string());
  const ConfigFile file(config);
  const std::string family = file.text("_class_name", "no _class_name");
  if (family.find("VACE") != std::string::npos || file.has("vace_layers"))
    refuse(file, "Wan VACE (video editing)");
  const bool original = family == "WanModel";
  if (!original && family != "WanTransformer3DModel")
    refuse(file, fmt::format("\"{}\", another family", family));
  const TransformerConfig c =
      original ? original_transformer(file, path) : diffusers_transformer(file);
  check_channels(file, c);
  return c;
}

VaeConfig read_vae_config(const fs::path& path) {
  const Weights weights(path, WeightsOf::vae);
  const fs::path config = config_path(path);
  check_video_vae(weights, path.string());
  // Beside a single file, a config.json may be the transformer's.
  if (!fs::exists(config) || !fs::is_directory(path))
    return vae_config_from(weights, path.string());
  const ConfigFile file(config);
  file.only("_class_name", "AutoencoderKLWan");
  const VaeConfig c = diffusers_vae(file);
  if (weights.shape("decoder.conv_in.weight")[1] != c.z_dim)
    fail(ExitCode::bad_data, "{}: expected z_dim {} as in decoder.conv_in.weight, found {}",
         file.where(), weights.shape("decoder.conv_in.weight")[1], c.z_dim);
  return c;
}

TextEncoderConfig read_text_encoder_config(const fs::path& path) {
  const fs::path config = config_path(path);
  if (!fs::exists(config) || !fs::is_directory(path))
    return text_encoder_config_from(Weights(path, WeightsOf::text_encoder), path.string());
  const ConfigFile file(config);
  file.only("model_type", "umt5");
  file.only("feed_forward_proj", "gated-gelu");
  TextEncoderConfig c;
  c.vocab = file.integer("vocab_size", 1, kMostVocabulary);
  c.d_model = file.integer("d_model", 1, kMostWidth);
  c.d_kv = file.integer("d_kv", 1, kMostHeadDim);
  c.heads = file.integer("num_heads", 1, kMostHeads);
  c.d_ff = file.integer("d_ff", 1, kMostWidth);
  c.layers = file.integer("num_layers", 1, kMostLayers);
  c.buckets = file.integer("relative_attention_num_buckets", 4, kMostTokens, 32);
  c.max_distance = file.integer("relative_attention_max_distance", 1, kMostTokens, 128);
  c.eps = static_cast<float>(file.number("layer_norm_epsilon", 1e-12, 0.1, 1e-6));
  return c;
}

}  // namespace longtake
