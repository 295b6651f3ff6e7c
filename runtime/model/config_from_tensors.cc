#include "runtime/model/config_from_tensors.h"

#include <algorithm>
#include <charconv>

#include "kernels/base/error.h"
#include "runtime/model/config_limits.h"

namespace longtake {

namespace {

constexpr float kMean21[] = {-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                             -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                             -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
constexpr float kStd21[] = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                            3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f};
constexpr float kMean22[] = {
    -.2289f, -.0052f, -.1323f, -.2339f, -.2799f, .0174f,  .1838f,  .1557f,  -.1382f, .0542f,
    .2813f,  .0891f,  .1570f,  -.0098f, .0375f,  -.1825f, -.2246f, -.1207f, -.0698f, .5109f,
    .2665f,  -.2108f, -.2158f, .2502f,  -.2055f, -.0322f, .1109f,  .1567f,  -.0729f, .0899f,
    -.2799f, -.1230f, -.0313f, -.1649f, .0117f,  .0723f,  -.2839f, -.2083f, -.0520f, .3748f,
    .0152f,  .1957f,  .1433f,  -.2944f, .3573f,  -.0548f, -.1681f, -.0667f};
constexpr float kStd22[] = {.4765f, 1.0364f, .4514f, 1.1677f, .5313f, .4990f,  .4818f, .5013f,
                            .8158f, 1.0344f, .5894f, 1.0901f, .6885f, .6165f,  .8454f, .4978f,
                            .5759f, .3523f,  .7135f, .6804f,  .5833f, 1.4146f, .8986f, .5659f,
                            .7069f, .5338f,  .4889f, .4917f,  .4069f, .4999f,  .6866f, .4093f,
                            .5709f, .6065f,  .6415f, .4944f,  .5726f, 1.2042f, .5458f, 1.6887f,
                            .3971f, 1.0600f, .3943f, .5537f,  .5444f, .4089f,  .7468f, .7744f};

int64_t in_range(int64_t value, int64_t most, const char* what, const std::string& where) {
  if (value < 1 || value > most)
    fail(ExitCode::bad_data, "{}: the tensors' shapes say {} {}, expected 1 to {}", where, value,
         what, most);
  return value;
}

// One dimension of a tensor that must have `rank` of them.
int64_t dim(const Weights& weights, const std::string& name, int rank, int index,
            const std::string& where) {
  const Shape shape = weights.shape(name);
  if (shape.rank() != rank)
    fail(ExitCode::bad_data, "{}: expected {} dimensions for tensor {}, found {}", where, rank,
         name, shape.text());
  return shape[index];
}

// One more than the largest number behind `prefix`, 0 when there is none.
int64_t count(const Weights& weights, const std::string& prefix) {
  int64_t n = 0;
  for (const std::string& name : weights.names()) {
    if (!name.starts_with(prefix)) continue;
    int64_t index = -1;
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), index);
    n = std::max(n, std::min(index, kMostWidth) + 1);
  }
  return n;
}

constexpr int64_t kWanHeadDim = 128;
constexpr const char* kEncoder = "encoder.block.0.layer.0.SelfAttention.";

}  // namespace

void refuse_conditioned(const Weights& weights, const std::string& where) {
  const char* found = nullptr;
  if (count(weights, "vace_blocks.") > 0)
    found = "Wan VACE (video editing)";
  else if (weights.has("condition_embedder.image_embedder.pos_embed"))
    found = "Wan2.1 FLF2V (first and last frame to video)";
  else if (weights.has("condition_embedder.image_embedder.norm1.weight"))
    found = "Wan2.1 I2V (image to video)";
  else if (dim(weights, "patch_embedding.weight", 5, 1, where) == 36)
    found = "Wan2.2 I2V-A14B (image to video)";
  if (found)
    fail(ExitCode::bad_data,
         "{}: this is {}; expected a text-to-video model: Wan2.1 T2V, Wan2.2 "
         "T2V-A14B or Wan2.2 TI2V-5B",
         where, found);
}

TransformerConfig transformer_config_from(const Weights& weights, const std::string& where) {
  refuse_conditioned(weights, where);
  const auto at = [&](const char* name, int rank, int index) {
    return dim(weights, name, rank, index, where);
  };
  TransformerConfig c;
  const int64_t width = in_range(at("patch_embedding.weight", 5, 0), kMostWidth, "channels", where);
  for (int i = 0; i < 3; ++i)
    if (at("patch_embedding.weight", 5, 2 + i) != c.patch[static_cast<size_t>(i)])
      fail(ExitCode::bad_data, "{}: expected patches [1, 2, 2], found {}", where,
           weights.shape("patch_embedding.weight").text());
  if (width % kWanHeadDim != 0)
    fail(ExitCode::bad_data,
         "{}: without a config.json the width must be a multiple of {} (the head "
         "size of all released models), found {}",
         where, kWanHeadDim, width);
  c.heads = width / kWanHeadDim;
  c.head_dim = kWanHeadDim;
  c.in_channels = in_range(at("patch_embedding.weight", 5, 1), kMostChannels, "channels", where);
  c.out_channels = in_range(at("proj_out.weight", 2, 0) / 4, kMostChannels, "channels", where);
  c.text_dim = in_range(at("condition_embedder.text_embedder.linear_1.weight", 2, 1), kMostWidth,
                        "text channels", where);
  c.freq_dim = in_range(at("condition_embedder.time_embedder.linear_1.weight", 2, 1), kMostWidth,
                        "time channels", where);
  c.ffn_dim = in_range(at("blocks.0.ffn.net.0.proj.weight", 2, 0), kMostWidth, "channels", where);
  c.layers = in_range(count(weights, "blocks."), kMostLayers, "layers", where);
  return c;
}

void set_released_latent_statistics(VaeConfig& c, const std::string& where) {
  if (c.z_dim == 16) {
    c.latents_mean.assign(std::begin(kMean21), std::end(kMean21));
    c.latents_std.assign(std::begin(kStd21), std::end(kStd21));
  } else if (c.z_dim == 48) {
    c.latents_mean.assign(std::begin(kMean22), std::end(kMean22));
    c.latents_std.assign(std::begin(kStd22), std::end(kStd22));
  } else {
    fail(ExitCode::bad_data,
         "{}: without latents_mean and latents_std in a config.json the latent "
         "must have 16 or 48 channels, found {}",
         where, c.z_dim);
  }
}

VaeConfig vae_config_from(const Weights& weights, const std::string& where) {
  const auto at = [&](const std::string& name, int rank, int index) {
    return in_range(dim(weights, name, rank, index, where), kMostChannels, "channels", where);
  };
  VaeConfig c;
  c.z_dim = at("decoder.conv_in.weight", 5, 1);
  c.decoder_base_dim = at("decoder.norm_out.gamma", 4, 0);
  c.base_dim = weights.has("encoder.conv_in.weight") ? at("encoder.conv_in.weight", 5, 0)
                                                     : c.decoder_base_dim;
  const int64_t levels =
      in_range(count(weights, "decoder.up_blocks."), kMostLevels, "VAE levels", where);
  c.res_blocks = in_range(count(weights, "decoder.up_blocks.0.resnets.") - 1, kMostLayers,
                          "residual blocks", where);
  c.residual = weights.has("decoder.up_blocks.0.upsampler.resample.1.weight");
  const std::string sampler = c.residual ? ".upsampler" : ".upsamplers.0";
  c.dim_mult.clear();
  c.temporal_downsample.clear();
  for (int64_t level = levels - 1; level >= 0; --level) {
    const std::string block = "decoder.up_blocks." + std::to_string(level);
    c.dim_mult.push_back(at(block + ".resnets.0.conv1.weight", 5, 0) / c.decoder_base_dim);
    if (level < levels - 1)
      c.temporal_downsample.push_back(weights.has(block + sampler + ".time_conv.weight"));
  }
  c.out_channels = at("decoder.conv_out.weight", 5, 0);
  c.in_channels = c.out_channels;
  c.patch = c.out_channels == 12 ? 2 : 1;  // 3 colours times the pixels of a patch
  c.temporal_factor =
      int64_t{1} << std::count(c.temporal_downsample.begin(), c.temporal_downsample.end(), true);
  c.spatial_factor = (int64_t{1} << (levels - 1)) * c.patch;
  set_released_latent_statistics(c, where);
  return c;
}

TextEncoderConfig text_encoder_config_from(const Weights& weights, const std::string& where) {
  const auto at = [&](const std::string& name, int index, int64_t most) {
    return in_range(dim(weights, name, 2, index, where), most, "rows or columns", where);
  };
  TextEncoderConfig c;
  c.vocab = at("shared.weight", 0, kMostVocabulary);
  c.d_model = at("shared.weight", 1, kMostWidth);
  c.buckets = at(std::string(kEncoder) + "relative_attention_bias.weight", 0, kMostTokens);
  c.heads = at(std::string(kEncoder) + "relative_attention_bias.weight", 1, kMostHeads);
  const int64_t inner = at(std::string(kEncoder) + "q.weight", 0, kMostWidth);
  if (inner % c.heads != 0)
    fail(ExitCode::bad_data, "{}: {} query channels cannot be split into {} heads", where, inner,
         c.heads);
  c.d_kv = inner / c.heads;
  c.d_ff = at("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0, kMostWidth);
  c.layers = in_range(count(weights, "encoder.block."), kMostLayers, "layers", where);
  return c;
}

}  // namespace longtake
