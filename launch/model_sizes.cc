#include "launch/model_sizes.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "launch/bench/random_vae.h"
#include "launch/number_table.h"
#include "runtime/model/vae_decoder.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;

// Profiles give the speed of convolutions for 96 channels. Fewer stay further from the speed of
// matrix products: about 0.26 of it was measured with 8 channels, 0.8 with 96.
constexpr double kProfileChannels = 96;
double conv_efficiency(double channels) {
  return channels / (channels + 23);
}

// The two released VAEs (wan.md 5), told apart by the channels of a latent.
std::optional<VaeConfig> released_vae(int64_t channels) {
  VaeConfig vae;
  if (channels == vae.z_dim) return vae;
  if (channels != 48) return std::nullopt;
  vae.base_dim = 160, vae.decoder_base_dim = 256, vae.z_dim = 48;
  vae.residual = true;
  vae.patch = 2, vae.spatial_factor = 16;
  vae.in_channels = vae.out_channels = 12;
  return vae;
}

ModelSizes read_sizes(const std::string& name_or_file) {
  const TableSource table = find_table("models", name_or_file);
  ModelSizes out;
  TransformerConfig& t = out.transformer;
  const auto whole = [](const char* key, int64_t* value, double high) {
    return TableField{.key = key, .whole = value, .low = 1, .high = high};
  };
  Problems problems;
  read_number_table(table.text, table.name,
                    {{.key = "name", .text = &out.name},
                     whole("layers", &t.layers, 1000),
                     whole("heads", &t.heads, 1000),
                     whole("head_dim", &t.head_dim, 4096),
                     whole("ffn", &t.ffn_dim, 1e6),
                     whole("text_dim", &t.text_dim, 1e6),
                     whole("channels", &t.in_channels, 4096),
                     whole("experts", &out.experts, 2)},
                    problems);
  problems.report();
  t.out_channels = t.in_channels;
  out.vae = released_vae(t.in_channels);
  return out;
}

// A folder that holds the configurations only, as after a download of the small files.
ModelSizes read_config_files(const fs::path& folder) {
  ModelSizes out;
  out.name = folder.filename().string();
  out.transformer = read_transformer_config(folder / "transformer");
  out.vae = released_vae(out.transformer.in_channels);
  out.experts = fs::exists(folder / "transformer_2") ? 2 : 1;
  return out;
}

}  // namespace

ModelSizes sizes_of(const ModelFolder& folder) {
  return {folder.variant, folder.transformer_config, folder.vae_or_released(),
          folder.transformer_2.empty() ? 1 : 2};
}

ModelSizes find_model_sizes(const RunConfig& config) {
  const fs::path& folder = config.model;
  if (!folder.empty() && fs::is_directory(folder)) try {
      return sizes_of(read_model_folder(folder));
    } catch (const Error& e) {
      const bool only_sizes =
          e.code() == ExitCode::missing_input && fs::exists(folder / "transformer" / "config.json");
      if (!only_sizes) throw;
      return read_config_files(folder);
    }
  if (!config.model_sizes.empty()) return read_sizes(config.model_sizes);
  if (folder.empty())
    fail(ExitCode::usage, "no model: give `model` or `model_sizes` in the file, or --model-sizes");
  fail(ExitCode::missing_input,
       "{}: no such model folder, and no `model_sizes` to plan with instead", folder.string());
}

ModelShape shape_of(const ModelSizes& sizes, int64_t height, int64_t width, DType compute,
                    bool decodes) {
  const TransformerConfig& t = sizes.transformer;
  ModelShape out;
  out.layers = t.layers;
  out.dim = t.dim();
  out.heads = t.heads;
  out.ffn = t.ffn_dim;
  out.text_rows = std::min(t.text_length, usual_text_rows);
  out.text_dim = t.text_dim;
  out.freq_dim = t.freq_dim;
  out.in_channels = t.in_channels;
  out.out_channels = t.out_channels;
  out.patch_rows = t.patch[1];
  out.patch_columns = t.patch[2];
  out.dtype_bytes = static_cast<int64_t>(size_bytes(compute));
  out.latent_rows = height;
  out.latent_columns = width;
  if (!decodes || !sizes.vae) return out;
  out.decode_flops_per_frame = decode_flops(*sizes.vae, height, width) *
                               conv_efficiency(kProfileChannels) /
                               conv_efficiency(static_cast<double>(sizes.vae->decoder_base_dim));
  double weights = 0;
  for (const VaeConv& conv : vae_decoder_convs(*sizes.vae))
    weights += static_cast<double>(conv.shape.numel());
  out.decode_bytes = sizeof(float) * weights + decode_bytes(*sizes.vae, height, width);
  return out;
}

}  // namespace longtake
