#include "runtime/model/name_map.h"

#include <doctest/doctest.h>

using namespace longtake;

namespace {

struct Pair {
  std::string original, diffusers;
};

void check_map(WeightsOf part, const std::vector<Pair>& pairs) {
  std::vector<std::string> names;
  for (const Pair& pair : pairs) names.push_back(pair.original);

  const std::vector<std::string> mapped = diffusers_names(names, part);

  REQUIRE(mapped.size() == pairs.size());
  for (size_t i = 0; i < pairs.size(); ++i) CHECK(mapped[i] == pairs[i].diffusers);
}

}  // namespace

TEST_CASE("transformer names are compared by whole components") {
  check_map(WeightsOf::transformer,
            {{"head.head.weight", "proj_out.weight"},
             {"head.modulation", "scale_shift_table"},
             {"blocks.12.modulation", "blocks.12.scale_shift_table"},
             {"blocks.0.norm3.weight", "blocks.0.norm2.weight"},
             {"blocks.0.cross_attn.k.weight", "blocks.0.attn2.to_k.weight"},
             {"blocks.0.cross_attn.k_img.weight", "blocks.0.attn2.add_k_proj.weight"},
             {"blocks.0.cross_attn.norm_k_img.weight", "blocks.0.attn2.norm_added_k.weight"},
             {"blocks.0.self_attn.o.bias", "blocks.0.attn1.to_out.0.bias"},
             {"img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"},
             {"patch_embedding.weight", "patch_embedding.weight"},
             {"something.else", "something.else"}});
}

TEST_CASE("diffusers names stay") {
  check_map(WeightsOf::transformer,
            {{"proj_out.weight", "proj_out.weight"},
             {"blocks.0.norm2.weight", "blocks.0.norm2.weight"},
             {"blocks.0.ffn.net.0.proj.weight", "blocks.0.ffn.net.0.proj.weight"}});
  check_map(WeightsOf::vae, {{"decoder.conv_in.weight", "decoder.conv_in.weight"},
                             {"decoder.up_blocks.0.resnets.0.conv1.weight",
                              "decoder.up_blocks.0.resnets.0.conv1.weight"}});
}

TEST_CASE("text encoder names") {
  const std::string block = "encoder.block.23.layer.";
  check_map(WeightsOf::text_encoder,
            {{"token_embedding.weight", "shared.weight"},
             {"norm.weight", "encoder.final_layer_norm.weight"},
             {"blocks.23.norm1.weight", block + "0.layer_norm.weight"},
             {"blocks.23.norm2.weight", block + "1.layer_norm.weight"},
             {"blocks.23.attn.o.weight", block + "0.SelfAttention.o.weight"},
             {"blocks.23.pos_embedding.embedding.weight",
              block + "0.SelfAttention.relative_attention_bias.weight"},
             {"blocks.23.ffn.gate.0.weight", block + "1.DenseReluDense.wi_0.weight"},
             {"blocks.23.ffn.fc1.weight", block + "1.DenseReluDense.wi_1.weight"},
             {"blocks.23.ffn.fc2.weight", block + "1.DenseReluDense.wo.weight"}});
}

TEST_CASE("Wan 2.1 VAE: the flat list is cut behind each resampler (two residual blocks)") {
  check_map(
      WeightsOf::vae,
      {{"conv1.weight", "quant_conv.weight"},
       {"conv2.bias", "post_quant_conv.bias"},
       {"encoder.conv1.weight", "encoder.conv_in.weight"},
       {"encoder.downsamples.2.resample.1.weight", "encoder.down_blocks.2.resample.1.weight"},
       {"encoder.downsamples.3.shortcut.bias", "encoder.down_blocks.3.conv_shortcut.bias"},
       {"decoder.middle.0.residual.0.gamma", "decoder.mid_block.resnets.0.norm1.gamma"},
       {"decoder.middle.1.to_qkv.weight", "decoder.mid_block.attentions.0.to_qkv.weight"},
       {"decoder.upsamples.2.residual.6.weight", "decoder.up_blocks.0.resnets.2.conv2.weight"},
       {"decoder.upsamples.3.resample.1.weight",
        "decoder.up_blocks.0.upsamplers.0.resample.1.weight"},
       {"decoder.upsamples.7.time_conv.bias", "decoder.up_blocks.1.upsamplers.0.time_conv.bias"},
       {"decoder.upsamples.14.residual.3.gamma", "decoder.up_blocks.3.resnets.2.norm2.gamma"},
       {"decoder.head.0.gamma", "decoder.norm_out.gamma"},
       {"decoder.head.2.weight", "decoder.conv_out.weight"}});
}

TEST_CASE("Wan 2.2 VAE: nested lists") {
  check_map(WeightsOf::vae,
            {{"decoder.upsamples.0.upsamples.0.residual.2.weight",
              "decoder.up_blocks.0.resnets.0.conv1.weight"},
             {"decoder.upsamples.1.upsamples.3.time_conv.weight",
              "decoder.up_blocks.1.upsampler.time_conv.weight"},
             {"decoder.upsamples.2.upsamples.0.shortcut.weight",
              "decoder.up_blocks.2.resnets.0.conv_shortcut.weight"},
             {"encoder.downsamples.2.downsamples.1.residual.3.gamma",
              "encoder.down_blocks.2.resnets.1.norm2.gamma"},
             {"encoder.downsamples.1.downsamples.2.resample.1.bias",
              "encoder.down_blocks.1.downsampler.resample.1.bias"},
             {"encoder.middle.2.residual.6.bias", "encoder.mid_block.resnets.1.conv2.bias"}});
}
