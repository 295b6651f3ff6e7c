// Whole components are compared, never substrings: norm2 and norm3 swap their meaning, and k is not
// the beginning of k_img.
#include "runtime/model/name_map.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <span>

#include "kernels/base/error.h"

namespace longtake {

namespace {

using Parts = std::vector<std::string_view>;

struct Rule {
  std::string_view original;   // '#' stands for any number; what follows the pattern is kept
  std::string_view diffusers;  // '#' is that number
};

constexpr Rule kTransformer[] = {
    {"time_embedding.0", "condition_embedder.time_embedder.linear_1"},
    {"time_embedding.2", "condition_embedder.time_embedder.linear_2"},
    {"time_projection.1", "condition_embedder.time_proj"},
    {"text_embedding.0", "condition_embedder.text_embedder.linear_1"},
    {"text_embedding.2", "condition_embedder.text_embedder.linear_2"},
    {"img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"},
    {"img_emb.proj.0", "condition_embedder.image_embedder.norm1"},
    {"img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"},
    {"img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"},
    {"img_emb.proj.4", "condition_embedder.image_embedder.norm2"},
    {"blocks.#.modulation", "blocks.#.scale_shift_table"},
    {"blocks.#.self_attn.q", "blocks.#.attn1.to_q"},
    {"blocks.#.self_attn.k", "blocks.#.attn1.to_k"},
    {"blocks.#.self_attn.v", "blocks.#.attn1.to_v"},
    {"blocks.#.self_attn.o", "blocks.#.attn1.to_out.0"},
    {"blocks.#.self_attn.norm_q", "blocks.#.attn1.norm_q"},
    {"blocks.#.self_attn.norm_k", "blocks.#.attn1.norm_k"},
    {"blocks.#.cross_attn.q", "blocks.#.attn2.to_q"},
    {"blocks.#.cross_attn.k", "blocks.#.attn2.to_k"},
    {"blocks.#.cross_attn.v", "blocks.#.attn2.to_v"},
    {"blocks.#.cross_attn.o", "blocks.#.attn2.to_out.0"},
    {"blocks.#.cross_attn.norm_q", "blocks.#.attn2.norm_q"},
    {"blocks.#.cross_attn.norm_k", "blocks.#.attn2.norm_k"},
    {"blocks.#.cross_attn.k_img", "blocks.#.attn2.add_k_proj"},
    {"blocks.#.cross_attn.v_img", "blocks.#.attn2.add_v_proj"},
    {"blocks.#.cross_attn.norm_k_img", "blocks.#.attn2.norm_added_k"},
    {"blocks.#.norm3", "blocks.#.norm2"},
    {"blocks.#.ffn.0", "blocks.#.ffn.net.0.proj"},
    {"blocks.#.ffn.2", "blocks.#.ffn.net.2"},
    {"head.modulation", "scale_shift_table"},
    {"head.head", "proj_out"},
};

constexpr Rule kTextEncoder[] = {
    {"token_embedding", "shared"},
    {"blocks.#.norm1", "encoder.block.#.layer.0.layer_norm"},
    {"blocks.#.attn.q", "encoder.block.#.layer.0.SelfAttention.q"},
    {"blocks.#.attn.k", "encoder.block.#.layer.0.SelfAttention.k"},
    {"blocks.#.attn.v", "encoder.block.#.layer.0.SelfAttention.v"},
    {"blocks.#.attn.o", "encoder.block.#.layer.0.SelfAttention.o"},
    {"blocks.#.pos_embedding.embedding",
     "encoder.block.#.layer.0.SelfAttention.relative_attention_bias"},
    {"blocks.#.norm2", "encoder.block.#.layer.1.layer_norm"},
    {"blocks.#.ffn.gate.0", "encoder.block.#.layer.1.DenseReluDense.wi_0"},
    {"blocks.#.ffn.fc1", "encoder.block.#.layer.1.DenseReluDense.wi_1"},
    {"blocks.#.ffn.fc2", "encoder.block.#.layer.1.DenseReluDense.wo"},
    {"norm", "encoder.final_layer_norm"},
};

// The parts of the VAE outside the lists of blocks.
constexpr Rule kVae[] = {
    {"conv1", "quant_conv"},
    {"conv2", "post_quant_conv"},
    {"encoder.conv1", "encoder.conv_in"},
    {"encoder.head.0", "encoder.norm_out"},
    {"encoder.head.2", "encoder.conv_out"},
    {"encoder.middle.0", "encoder.mid_block.resnets.0"},
    {"encoder.middle.1", "encoder.mid_block.attentions.0"},
    {"encoder.middle.2", "encoder.mid_block.resnets.1"},
    {"decoder.conv1", "decoder.conv_in"},
    {"decoder.head.0", "decoder.norm_out"},
    {"decoder.head.2", "decoder.conv_out"},
    {"decoder.middle.0", "decoder.mid_block.resnets.0"},
    {"decoder.middle.1", "decoder.mid_block.attentions.0"},
    {"decoder.middle.2", "decoder.mid_block.resnets.1"},
};

constexpr Rule kVaeLeaf[] = {
    {"residual.0", "norm1"}, {"residual.2", "conv1"},       {"residual.3", "norm2"},
    {"residual.6", "conv2"}, {"shortcut", "conv_shortcut"},
};

Parts split(std::string_view name) {
  Parts parts;
  for (size_t begin = 0;;) {
    const size_t end = name.find('.', begin);
    parts.push_back(name.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value > 99999)
    return std::nullopt;
  return value;
}

void append(std::string& out, std::string_view component) {
  if (!out.empty()) out += '.';
  out += component;
}

std::string join(std::span<const std::string_view> parts) {
  std::string out;
  for (const std::string_view part : parts) append(out, part);
  return out;
}

std::optional<std::string> apply(const Rule& rule, std::span<const std::string_view> name) {
  const Parts pattern = split(rule.original);
  if (name.size() < pattern.size()) return std::nullopt;
  std::string_view matched;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == "#" && number(name[i]))
      matched = name[i];
    else if (pattern[i] != name[i])
      return std::nullopt;
  }
  std::string out;
  for (const std::string_view part : split(rule.diffusers))
    append(out, part == "#" ? matched : part);
  for (const std::string_view part : name.subspan(pattern.size())) append(out, part);
  return out;
}

template <size_t N>
std::optional<std::string> apply_first(const Rule (&rules)[N],
                                       std::span<const std::string_view> name) {
  for (const Rule& rule : rules)
    if (auto out = apply(rule, name)) return out;
  return std::nullopt;
}

// "residual.6.weight" -> "conv2.weight"
std::string vae_leaf(std::span<const std::string_view> leaf) {
  const auto out = apply_first(kVaeLeaf, leaf);
  return out ? *out : join(leaf);
}

bool any_starts_with(const std::vector<std::string>& names, std::string_view text) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.starts_with(text); });
}

// The first resampler of the flat decoder list stands behind the R + 1 residual blocks of its
// level.
int decoder_level_length(const std::vector<std::string>& names) {
  int first = std::numeric_limits<int>::max(), last = 0;
  for (const std::string& name : names) {
    const Parts parts = split(name);
    if (parts.size() < 4 || parts[0] != "decoder" || parts[1] != "upsamples") continue;
    const auto index = number(parts[2]);
    if (!index) continue;
    last = std::max(last, *index);
    if (parts[3] == "resample") first = std::min(first, *index);
  }
  return first <= last ? first + 1 : last + 1;
}

std::string vae_block(const Parts& parts, bool residual, int level_length) {
  const bool decoder = parts[0] == "decoder";
  const auto k = number(parts[2]);
  const std::string base = std::string(parts[0]) + (decoder ? ".up_blocks." : ".down_blocks.");
  if (!k) return join(parts);
  if (!residual && !decoder)
    return fmt::format("{}{}.{}", base, *k, vae_leaf(std::span(parts).subspan(3)));
  if (residual && (parts.size() < 6 || !number(parts[4]))) return join(parts);
  const int level = residual ? *k : *k / level_length;
  const int index = residual ? *number(parts[4]) : *k % level_length;
  const auto leaf = std::span(parts).subspan(residual ? 5 : 3);
  const std::string block = base + std::to_string(level);
  if (leaf[0] != "resample" && leaf[0] != "time_conv")
    return fmt::format("{}.resnets.{}.{}", block, index, vae_leaf(leaf));
  const char* resampler = !residual ? "upsamplers.0" : decoder ? "upsampler" : "downsampler";
  return fmt::format("{}.{}.{}", block, resampler, join(leaf));
}

std::vector<std::string> vae_names(const std::vector<std::string>& names) {
  const bool residual = any_starts_with(names, "decoder.upsamples.0.upsamples.");
  const int level_length = decoder_level_length(names);
  std::vector<std::string> out;
  for (const std::string& name : names) {
    const Parts parts = split(name);
    if (parts.size() >= 4 && (parts[1] == "upsamples" || parts[1] == "downsamples")) {
      out.push_back(vae_block(parts, residual, level_length));
    } else if (parts.size() > 3 && parts[1] == "middle") {
      const auto middle = apply_first(kVae, std::span(parts).first(3));
      out.push_back(middle ? *middle + "." + vae_leaf(std::span(parts).subspan(3)) : name);
    } else {
      out.push_back(apply_first(kVae, parts).value_or(name));
    }
  }
  return out;
}

template <size_t N>
std::vector<std::string> renamed(const Rule (&rules)[N], const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const std::string& name : names)
    out.push_back(apply_first(rules, split(name)).value_or(name));
  return out;
}

bool original_names(const std::vector<std::string>& names, WeightsOf part) {
  const auto any = [&](std::initializer_list<std::string_view> beginnings) {
    return std::any_of(beginnings.begin(), beginnings.end(),
                       [&](std::string_view text) { return any_starts_with(names, text); });
  };
  switch (part) {
    case WeightsOf::transformer:
      return any({"head.", "text_embedding.", "time_embedding."});
    case WeightsOf::text_encoder:
      return any({"token_embedding.", "blocks."});
    case WeightsOf::vae:
      return any({"decoder.middle.", "decoder.conv1.", "decoder.upsamples."});
  }
  return false;
}

}  // namespace

std::string_view without_prefix(std::string_view name) {
  for (const std::string_view prefix :
       {"model.diffusion_model.", "diffusion_model.", "model.", "net."})
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  return name;
}

bool names_transformer(const std::vector<std::string>& names) {
  return any_starts_with(names, "patch_embedding.");
}

bool names_vae(const std::vector<std::string>& names) {
  return any_starts_with(names, "decoder.conv1.") || any_starts_with(names, "decoder.conv_in.");
}

bool names_text_encoder(const std::vector<std::string>& names) {
  return any_starts_with(names, "token_embedding.") || any_starts_with(names, "shared.weight") ||
         any_starts_with(names, "encoder.embed_tokens.");
}

std::vector<std::string> diffusers_names(const std::vector<std::string>& names, WeightsOf part) {
  if (!original_names(names, part)) return names;
  switch (part) {
    case WeightsOf::transformer:
      return renamed(kTransformer, names);
    case WeightsOf::text_encoder:
      return renamed(kTextEncoder, names);
    case WeightsOf::vae:
      return vae_names(names);
  }
  return names;
}

}  // namespace longtake
