#include "launch/model_info.h"

#include <fmt/core.h>

#include "runtime/model/model_config.h"
#include "runtime/model/weights.h"

namespace longtake {

namespace {

std::string size_row(const std::string& part, const std::filesystem::path& path, WeightsOf kind) {
  if (path.empty()) return fmt::format("{:<16}not in this folder\n", part);
  const Weights weights(path, kind);
  int64_t parameters = 0;
  for (const std::string& name : weights.names()) parameters += weights.shape(name).numel();
  const auto count = static_cast<double>(parameters);
  const auto mb = [](double bytes) { return fmt::format("{:.1f}", bytes / 1e6); };
  return fmt::format("{:<16}{:>12.3f}{:>12}{:>12}{:>12}\n", part, count / 1e6,
                     mb(static_cast<double>(weights.bytes())), mb(4 * count), mb(2 * count));
}

std::string transformer_text(const ModelFolder& model) {
  const TransformerConfig& t = model.transformer_config;
  std::string out = fmt::format(
      "transformer     {} layers, dim {}, {} heads of {}, ffn {}, patch {} x {} x {}, text {} x "
      "{}\n",
      t.layers, t.dim(), t.heads, t.head_dim, t.ffn_dim, t.patch[0], t.patch[1], t.patch[2],
      t.text_length, t.text_dim);
  if (model.boundary_ratio) {
    out += fmt::format("experts         two, change at noise level {}\n", *model.boundary_ratio);
  }
  return out;
}

}  // namespace

std::string describe_model(const std::filesystem::path& folder) {
  const ModelFolder model = read_model_folder(folder);
  std::string out =
      fmt::format("model           {}\nvariant         {}\n", folder.string(), model.variant);
  out += transformer_text(model);
  if (const auto& e = model.text_encoder_config) {
    out += fmt::format("text encoder    {} layers, dim {}, {} heads of {}, ffn {}, {} tokens\n",
                       e->layers, e->d_model, e->heads, e->d_kv, e->d_ff, e->vocab);
  }
  if (const auto& v = model.vae_config) {
    out += fmt::format("VAE             {} channels, 1/{} in space, 1/{} in time\n", v->z_dim,
                       v->spatial_factor, v->temporal_factor);
  }
  out +=
      fmt::format("\n{:<16}{:>12}{:>12}{:>12}{:>12}\n", "", "parameters", "stored", "f32", "bf16");
  out += fmt::format("{:<16}{:>12}{:>12}{:>12}{:>12}\n", "", "10^6", "MB", "MB", "MB");
  out += size_row("transformer", model.transformer, WeightsOf::transformer);
  if (!model.transformer_2.empty()) {
    out += size_row("transformer 2", model.transformer_2, WeightsOf::transformer);
  }
  out += size_row("text encoder", model.text_encoder, WeightsOf::text_encoder);
  return out + size_row("VAE", model.vae, WeightsOf::vae);
}

}  // namespace longtake
