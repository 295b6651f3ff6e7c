#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/model/config_from_tensors.h"
#include "runtime/model/model_config.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden_file.h"
#include "tests/support/random.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch_folder.h"

using namespace longtake;
using namespace longtake::testing;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

fs::path golden_model(const std::string& name) {
  return golden_folder() / "models" / name;
}

json read_json(const fs::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

// A copy of a golden model folder that a test may damage.
class Copy {
 public:
  explicit Copy(const std::string& model) {
    fs::copy(golden_model(model), root(), fs::copy_options::recursive);
  }
  fs::path root() const { return folder_ / "model"; }

  // Sets one key of a JSON file.
  void set(const std::string& file, const std::string& key, const json& value) const {
    json tree = read_json(root() / file);
    tree[key] = value;
    write_bytes(root() / file, tree.dump());
  }

  void check_refused(const std::string& words, ExitCode code = ExitCode::bad_data) const {
    const Error e = error_of([&] { read_model_folder(root()); });
    CHECK(mentions(e, words));
    CHECK(e.code() == code);
  }

 private:
  ScratchFolder folder_;
};

constexpr const char* kIndex = "model_index.json";
constexpr const char* kTransformer = "transformer/config.json";
constexpr const char* kVae = "vae/config.json";
constexpr const char* kScheduler = "scheduler/scheduler_config.json";

void check_same(const TransformerConfig& a, const TransformerConfig& b) {
  CHECK(a.heads == b.heads);
  CHECK(a.head_dim == b.head_dim);
  CHECK(a.in_channels == b.in_channels);
  CHECK(a.out_channels == b.out_channels);
  CHECK(a.text_dim == b.text_dim);
  CHECK(a.freq_dim == b.freq_dim);
  CHECK(a.ffn_dim == b.ffn_dim);
  CHECK(a.layers == b.layers);
}

void check_same(const VaeConfig& a, const VaeConfig& b) {
  CHECK(a.base_dim == b.base_dim);
  CHECK(a.decoder_base_dim == b.decoder_base_dim);
  CHECK(a.z_dim == b.z_dim);
  CHECK(a.dim_mult == b.dim_mult);
  CHECK(a.res_blocks == b.res_blocks);
  CHECK(a.temporal_downsample == b.temporal_downsample);
  CHECK(a.residual == b.residual);
  CHECK(a.out_channels == b.out_channels);
  CHECK(a.patch == b.patch);
  CHECK(a.temporal_factor == b.temporal_factor);
  CHECK(a.spatial_factor == b.spatial_factor);
}

// A folder in the original layout of T2V-A14B, from golden parts of one text and latent width.
void make_original_a14b(const fs::path& root) {
  fs::copy(golden_model("dit-head12-original"), root / "high_noise_model");
  fs::copy(golden_model("dit-head12-original"), root / "low_noise_model");
  fs::copy(golden_model("vae21-small-original") / "Wan2.1_VAE.safetensors",
           root / "Wan2.1_VAE.safetensors");
  fs::copy(golden_model("a14b-tiny") / "text_encoder" / "model.safetensors",
           root / "models_t5_umt5-xxl-enc-bf16.safetensors");
  fs::create_directories(root / "google");
  fs::copy(golden_model("a14b-tiny") / "tokenizer", root / "google" / "umt5-xxl");
}

}  // namespace

TEST_CASE("golden: a diffusers folder") {
  const ModelFolder m = read_model_folder(golden_model("t2v-tiny"));

  CHECK(m.variant == "Wan2.1 T2V");
  CHECK(m.transformer == golden_model("t2v-tiny") / "transformer");
  CHECK(m.transformer_2.empty());
  CHECK(m.tokenizer == golden_model("t2v-tiny") / "tokenizer");
  check_same(m.transformer_config, {.heads = 4,
                                    .head_dim = 32,
                                    .in_channels = 16,
                                    .out_channels = 16,
                                    .text_dim = 48,
                                    .ffn_dim = 144,
                                    .layers = 4});
  REQUIRE(m.vae_config);
  CHECK(m.vae_config->base_dim == 3);
  CHECK(m.vae_config->decoder_base_dim == 3);
  CHECK(m.vae_config->latents_std[15] == 1.916f);
  REQUIRE(m.text_encoder_config);
  CHECK(m.text_encoder_config->vocab == 640);
  CHECK(m.text_encoder_config->heads == 4);
  CHECK(m.text_encoder_config->d_kv == 16);
  CHECK(m.scheduler.solver == SchedulerConfig::Solver::unipc);
  CHECK(m.scheduler.shift == 3.0f);
  CHECK(!m.boundary_ratio);
}

TEST_CASE("golden: two experts and the 5B") {
  const ModelFolder experts = read_model_folder(golden_model("a14b-tiny"));
  const ModelFolder per_token = read_model_folder(golden_model("dit-ti2v"));

  CHECK(experts.variant == "Wan2.2 T2V-A14B");
  CHECK(experts.boundary_ratio == 0.875);
  CHECK(experts.transformer_2 == golden_model("a14b-tiny") / "transformer_2");
  CHECK(per_token.variant == "Wan2.2 TI2V-5B");
  CHECK(per_token.expand_timesteps);
}

TEST_CASE("golden: the original configuration says the same as the diffusers one") {
  check_same(read_transformer_config(golden_model("dit-head12-original")),
             read_transformer_config(golden_model("dit-head12")));
}

TEST_CASE("golden: the shapes say the same as the configuration") {
  const ScratchFolder folder;
  for (const char* model :
       {"dit-head128-bf16", "vae22", "t2v-tiny/vae", "a14b-tiny/vae", "t2v-tiny/text_encoder"}) {
    CAPTURE(model);
    const fs::path bare = folder / "bare";
    fs::remove_all(bare);
    fs::copy(golden_model(model), bare);
    fs::remove(bare / "config.json");

    if (std::string(model).find("dit") == 0) {
      check_same(read_transformer_config(bare), read_transformer_config(golden_model(model)));
    } else if (std::string(model).find("vae") != std::string::npos) {
      check_same(read_vae_config(bare), read_vae_config(golden_model(model)));
    } else {
      const TextEncoderConfig a = read_text_encoder_config(bare);
      const TextEncoderConfig b = read_text_encoder_config(golden_model(model));
      CHECK(a.vocab == b.vocab);
      CHECK(a.d_model == b.d_model);
      CHECK(a.d_kv == b.d_kv);
      CHECK(a.heads == b.heads);
      CHECK(a.d_ff == b.d_ff);
      CHECK(a.layers == b.layers);
      CHECK(a.buckets == b.buckets);
    }
  }
}

TEST_CASE("the original layout of two experts") {
  const ScratchFolder folder;
  make_original_a14b(folder.path());

  const ModelFolder m = read_model_folder(folder.path());

  CHECK(m.variant == "Wan2.2 T2V-A14B");
  CHECK(m.transformer == folder / "high_noise_model");
  CHECK(m.transformer_2 == folder / "low_noise_model");
  CHECK(m.vae == folder / "Wan2.1_VAE.safetensors");
  CHECK(m.text_encoder == folder / "models_t5_umt5-xxl-enc-bf16.safetensors");
  CHECK(m.tokenizer == folder / "google/umt5-xxl");
  CHECK(m.boundary_ratio == 0.875);
  CHECK(m.scheduler.shift == 12.0f);
  REQUIRE(m.vae_config);
  CHECK(m.vae_config->latents_mean[0] == -0.7571f);
  CHECK(m.vae_config->res_blocks == 1);
}

TEST_CASE("pickles in the original layout are refused with what to do") {
  for (const char* file : {"Wan2.1_VAE", "models_t5_umt5-xxl-enc-bf16"}) {
    const ScratchFolder folder;
    make_original_a14b(folder.path());
    fs::rename(folder / (std::string(file) + ".safetensors"),
               folder / (std::string(file) + ".pth"));

    const Error e = error_of([&] { read_model_folder(folder.path()); });

    CHECK(e.code() == ExitCode::bad_data);
    CHECK(mentions(e, std::string(file) + ".pth is a PyTorch pickle"));
    CHECK(mentions(e, "convert to safetensors"));
  }
}

TEST_CASE("golden: image-conditioned variants are refused by name") {
  const auto check = [](const std::string& model, const std::string& words) {
    const Error e = error_of([&] { read_model_folder(golden_model(model)); });
    CHECK(e.code() == ExitCode::bad_data);
    CHECK(mentions(e, words));
  };
  check("dit-i2v", "Wan2.1 I2V");
  check("dit-i2v-original", "Wan2.1 I2V");
  check("dit-flf2v", "Wan2.1 FLF2V");

  const ScratchFolder folder;  // without configuration, from the tensors
  for (const char* model : {"dit-i2v", "dit-flf2v"}) {
    fs::remove_all(folder / "bare");
    fs::copy(golden_model(model), folder / "bare");
    fs::remove(folder / "bare" / "config.json");
    const Error e = error_of([&] { read_transformer_config(folder / "bare"); });
    CHECK(mentions(e, std::string(model) == "dit-i2v" ? "Wan2.1 I2V" : "Wan2.1 FLF2V"));
  }
}

TEST_CASE("36 channels without an image branch are Wan2.2 I2V-A14B") {
  const ScratchFolder folder;
  std::vector<NamedTensor> tensors;
  tensors.push_back({"patch_embedding.weight", random_tensor({128, 36, 1, 2, 2}, 1)});
  write_safetensors(folder / "model.safetensors", tensors);

  const Error e = error_of([&] { read_transformer_config(folder.path()); });

  CHECK(e.code() == ExitCode::bad_data);
  CHECK(mentions(e, "Wan2.2 I2V-A14B"));
}

TEST_CASE("the released latent statistics") {
  const VaeConfig in_config = read_vae_config(golden_model("t2v-tiny") / "vae");
  VaeConfig wan21, wan22, other;
  wan21.z_dim = 16;
  wan22.z_dim = 48;
  other.z_dim = 20;

  set_released_latent_statistics(wan21, "here");
  set_released_latent_statistics(wan22, "here");

  CHECK(wan21.latents_mean == in_config.latents_mean);  // this golden holds the released ones
  CHECK(wan21.latents_std == in_config.latents_std);
  const auto sum = [](const std::vector<float>& x) {
    return std::accumulate(x.begin(), x.end(), 0.0);
  };
  REQUIRE(wan22.latents_mean.size() == 48);
  REQUIRE(wan22.latents_std.size() == 48);
  CHECK(sum(wan22.latents_mean) == doctest::Approx(-0.5589).epsilon(1e-5));
  CHECK(sum(wan22.latents_std) == doctest::Approx(32.5360).epsilon(1e-6));
  CHECK(mentions(error_of([&] { set_released_latent_statistics(other, "here"); }), "found 20"));
}

TEST_CASE("models of other families and variants are refused by name") {
  const auto check = [](const std::string& file, const std::string& key, const json& value,
                        const std::string& words) {
    const Copy copy("t2v-tiny");
    copy.set(file, key, value);
    copy.check_refused(words);
  };
  check(kIndex, "_class_name", "FluxPipeline", "found \"FluxPipeline\": a model of another family");
  check(kIndex, "_class_name", "WanVACEPipeline", "Wan VACE");
  check(kIndex, "_class_name", "WanImageToVideoPipeline", "Wan I2V");
  check(kTransformer, "_class_name", "FluxTransformer2DModel", "another family");
  check(kTransformer, "_class_name", "WanVACETransformer3DModel", "Wan VACE");
  check(kTransformer, "in_channels", 36, "Wan2.2 I2V-A14B");
  check(kTransformer, "in_channels", 32, "32 channels in and 16 out");
  check(kVae, "_class_name", "AutoencoderKL", "AutoencoderKLWan");
  check("text_encoder/config.json", "model_type", "t5", "expected \"umt5\"");
  check(kScheduler, "_class_name", "DDIMScheduler", "UniPCMultistepScheduler or FlowMatchEuler");
}

TEST_CASE("absurd numbers and wrong types are refused with file, key, expected and found") {
  const auto check = [](const std::string& file, const std::string& key, const json& value,
                        const std::string& words) {
    const Copy copy("t2v-tiny");
    copy.set(file, key, value);
    copy.check_refused(words);
    copy.check_refused(file);
  };
  check(kTransformer, "num_layers", 0, "from 1 to 1024 for \"num_layers\", found 0");
  check(kTransformer, "num_attention_heads", -4, "\"num_attention_heads\", found -4");
  check(kTransformer, "ffn_dim", UINT64_MAX, "\"ffn_dim\", found 18446744073709551615");
  check(kTransformer, "ffn_dim", 1e30, "\"ffn_dim\", found 1e+30");
  check(kTransformer, "text_dim", "48", "\"text_dim\", found \"48\"");
  check(kTransformer, "attention_head_dim", 33, "even head size");
  check(kTransformer, "in_channels", nullptr, "\"in_channels\" is missing");
  check(kTransformer, "patch_size", {2, 2, 2}, "expected [1,2,2] for \"patch_size\"");
  check(kTransformer, "eps", 0, "\"eps\", found 0");
  check(kVae, "dim_mult", json::array(), "\"dim_mult\"");
  check(kVae, "dim_mult", {1, 2, 4, -4}, "\"dim_mult\"");
  check(kVae, "temperal_downsample", {true, true}, "temperal_downsample");
  check(kVae, "latents_std", {1, 2}, "expected 16 values");
  check(kVae, "scale_factor_spatial", 16, "scale_factor_spatial 8");
  check(kVae, "z_dim", 12, "expected 12 values");
  check(kScheduler, "flow_shift", -3.0, "\"flow_shift\", found -3.0");
  check(kScheduler, "solver_order", 3, "expected 2 for \"solver_order\"");
  check(kIndex, "boundary_ratio", 1.5, "\"boundary_ratio\", found 1.5");
  check(kIndex, "boundary_ratio", 0.9, "transformer_2 and boundary_ratio together");
}

TEST_CASE("parts that do not belong together are refused") {
  const Copy experts("a14b-tiny"), widths("t2v-tiny"), latents("t2v-tiny");
  experts.set("transformer_2/config.json", "num_layers", 3);
  experts.check_refused("two experts of one size");
  widths.set("text_encoder/config.json", "d_model", 64);
  widths.check_refused("text encoder of width 48");
  latents.set(kTransformer, "in_channels", 20);
  latents.set(kTransformer, "out_channels", 20);
  latents.check_refused("VAE with 20 latent channels");
}

TEST_CASE("missing parts") {
  const Copy no_transformer("t2v-tiny"), no_config("t2v-tiny"), no_vae("t2v-tiny");
  fs::remove_all(no_transformer.root() / "transformer");
  fs::remove(no_config.root() / kScheduler);
  fs::remove_all(no_vae.root() / "vae");

  no_transformer.check_refused("expected a folder transformer", ExitCode::missing_input);
  no_config.check_refused("scheduler_config.json: cannot open", ExitCode::missing_input);
  CHECK(!read_model_folder(no_vae.root()).vae_config);  // enough for latents
}

TEST_CASE("a folder that is not there, empty, a file or full of pickles") {
  const ScratchFolder folder;
  write_bytes(folder / "file", "x");
  fs::create_directory(folder / "empty");
  write_bytes(folder / "pickles" / "model.bin", "PK");
  const auto refused = [&](const char* name) {
    return error_of([&] { read_model_folder(folder / name); });
  };

  CHECK(refused("none").code() == ExitCode::missing_input);
  CHECK(mentions(refused("none"), "no such model folder"));
  CHECK(mentions(refused("file"), "found a file"));
  CHECK(refused("empty").code() == ExitCode::missing_input);
  CHECK(mentions(refused("empty"), "expected model_index.json or the weights"));
  CHECK(refused("pickles").code() == ExitCode::bad_data);
  CHECK(mentions(refused("pickles"), "convert to safetensors"));
}

TEST_CASE("an image-only VAE is refused") {
  const ScratchFolder folder;
  std::vector<NamedTensor> tensors;
  tensors.push_back({"decoder.conv_in.weight", random_tensor({8, 16, 3, 3}, 1)});
  write_safetensors(folder / "diffusion_pytorch_model.safetensors", tensors);

  const Error e = error_of([&] { read_vae_config(folder.path()); });

  CHECK(e.code() == ExitCode::bad_data);
  CHECK(mentions(e, "image-only"));
}

TEST_CASE("Euler and its shift") {
  const Copy copy("t2v-tiny");
  write_bytes(copy.root() / kScheduler,
              R"({"_class_name":"FlowMatchEulerDiscreteScheduler","shift":8.0})");

  const SchedulerConfig c = read_model_folder(copy.root()).scheduler;

  CHECK(c.solver == SchedulerConfig::Solver::euler);
  CHECK(c.shift == 8.0f);
}

TEST_CASE("configuration files that are no JSON object") {
  const auto check = [](const std::string& text, const std::string& words) {
    const Copy copy("t2v-tiny");
    write_bytes(copy.root() / kTransformer, text);
    copy.check_refused(words);
  };
  check("", "not JSON");
  check("{\"a\":1", "not JSON");
  check("[1]", "expected a JSON object, found array");
  check("{\"a\":1,\"a\":2}", "the key \"a\" is doubled");
  check("{\"eps\":1e999}", "not JSON");
}
