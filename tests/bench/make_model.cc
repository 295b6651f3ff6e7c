// make_model FOLDER [heads=4] [head_dim=64] [ffn=1024] [layers=8] [text_dim=256] [channels=16]
// [dtype=f32] A transformer with random weights in diffusers layout, without VAE and text encoder,
// and FOLDER/embeds.safetensors with random prompt embeddings, for benches with --latents-only
// --prompt-embeds.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/base/error.h"
#include "launch/bench/random_weights.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;

void write_json(const fs::path& path, const nlohmann::json& json) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path);
  file << json.dump(1) << "\n";
  if (!file.flush()) fail(ExitCode::io, "cannot write {}", path.string());
}

void make_model(const fs::path& folder, const TransformerConfig& c, DType dtype) {
  write_json(folder / "model_index.json", {{"_class_name", "WanPipeline"},
                                           {"transformer", {"diffusers", "WanTransformer3DModel"}},
                                           {"scheduler", {"diffusers", "UniPCMultistepScheduler"}},
                                           {"transformer_2", {nullptr, nullptr}}});
  write_json(folder / "scheduler" / "scheduler_config.json",
             {{"_class_name", "UniPCMultistepScheduler"},
              {"flow_shift", 3.0},
              {"use_flow_sigmas", true},
              {"prediction_type", "flow_prediction"}});
  write_json(folder / "transformer" / "config.json", {{"_class_name", "WanTransformer3DModel"},
                                                      {"patch_size", {1, 2, 2}},
                                                      {"num_attention_heads", c.heads},
                                                      {"attention_head_dim", c.head_dim},
                                                      {"in_channels", c.in_channels},
                                                      {"out_channels", c.out_channels},
                                                      {"text_dim", c.text_dim},
                                                      {"freq_dim", c.freq_dim},
                                                      {"ffn_dim", c.ffn_dim},
                                                      {"num_layers", c.layers},
                                                      {"cross_attn_norm", true},
                                                      {"qk_norm", "rms_norm_across_heads"},
                                                      {"eps", 1e-6},
                                                      {"image_dim", nullptr},
                                                      {"added_kv_proj_dim", nullptr},
                                                      {"rope_max_seq_len", 1024},
                                                      {"pos_embed_seq_len", nullptr}});
  write_random_weights(folder / "transformer" / "diffusion_pytorch_model.safetensors",
                       transformer_tensors(c), dtype, 1);
  const std::vector<RandomTensor> text{{"text.0", {24, c.text_dim}, 1.0f},
                                       {"uncond", {24, c.text_dim}, 1.0f}};
  write_random_weights(folder / "embeds.safetensors", text, DType::f32, 2);
}

int run(int argc, char** argv) {
  if (argc < 2) fail(ExitCode::usage, "make_model FOLDER [key=value ...]");
  std::map<std::string, std::string> given{{"heads", "4"},  {"head_dim", "64"},  {"ffn", "1024"},
                                           {"layers", "8"}, {"text_dim", "256"}, {"channels", "16"},
                                           {"dtype", "f32"}};
  for (int i = 2; i < argc; ++i) {
    const std::string text = argv[i];
    const size_t equals = text.find('=');
    if (equals == std::string::npos || !given.contains(text.substr(0, equals)))
      fail(
          ExitCode::usage,
          "make_model: expected heads= head_dim= ffn= layers= text_dim= channels= dtype=, found {}",
          text);
    given[text.substr(0, equals)] = text.substr(equals + 1);
  }
  const auto number = [&](const char* key) { return std::stoll(given.at(key)); };
  TransformerConfig c;
  c.heads = number("heads");
  c.head_dim = number("head_dim");
  c.ffn_dim = number("ffn");
  c.layers = number("layers");
  c.text_dim = number("text_dim");
  c.in_channels = c.out_channels = number("channels");
  make_model(argv[1], c, given.at("dtype") == "bf16" ? DType::bf16 : DType::f32);
  return 0;
}

}  // namespace

}  // namespace longtake

int main(int argc, char** argv) {
  try {
    return longtake::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_model: %s\n", e.what());
    return 1;
  }
}
