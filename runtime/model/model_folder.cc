// Finds the parts of a model: diffusers folders by model_index.json, original Wan files by content
// (wan.md 3.3, 8).
#include "kernels/base/error.h"
#include "runtime/model/config_file.h"
#include "runtime/model/model_config.h"
#include "runtime/model/name_map.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights_files.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

constexpr double kA14bBoundary = 0.875;  // Wan2.2 T2V-A14B, wan.md 1

// A component is ["library", "Class"], or [null, null] or nothing when the model has none.
bool has_component(const ConfigFile& index, const std::string& name) {
  if (!index.has(name)) return false;
  const nlohmann::json& pair = index.tree().at(name);
  if (!pair.is_array() || pair.size() != 2) index.reject(name, "[library, class]");
  return !pair[1].is_null();
}

fs::path component(const ConfigFile& index, const fs::path& root, const std::string& name) {
  const bool there = has_component(index, name) && fs::is_directory(root / name);
  return there ? root / name : fs::path{};
}

void refuse_family(const ConfigFile& index, const fs::path& root) {
  const std::string family = index.text("_class_name");
  if (family == "WanPipeline") return;
  if (family == "WanImageToVideoPipeline") {
    // The transformer's own configuration tells which of the image-conditioned ones it is.
    if (fs::is_directory(root / "transformer")) (void)read_transformer_config(root / "transformer");
    fail(ExitCode::bad_data, "{}: this is Wan I2V (image to video); expected a text-to-video model",
         index.where());
  }
  if (family.find("VACE") != std::string::npos)
    fail(ExitCode::bad_data, "{}: this is Wan VACE (video editing); expected a text-to-video model",
         index.where());
  fail(ExitCode::bad_data,
       "{}: expected \"_class_name\": \"WanPipeline\", found \"{}\": a model of "
       "another family",
       index.where(), family);
}

SchedulerConfig read_scheduler(const fs::path& path) {
  const ConfigFile file(path);
  SchedulerConfig c;
  const std::string name = file.text("_class_name");
  for (const char* key :
       {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_dynamic_shifting",
        "thresholding", "invert_sigmas", "stochastic_sampling"})
    file.only(key, false);
  file.only("num_train_timesteps", 1000);
  if (name == "UniPCMultistepScheduler") {
    file.only("solver_order", 2);
    file.only("solver_type", "bh2");
    file.only("predict_x0", true);
    file.only("prediction_type", "flow_prediction");
    file.only("use_flow_sigmas", true);
    file.only("lower_order_final", true);
    file.only("final_sigmas_type", "zero");
    file.only("disable_corrector", nlohmann::json::array());
    c.solver = SchedulerConfig::Solver::unipc;
    c.shift = static_cast<float>(file.number("flow_shift", 1e-3, 1e3, 1.0));
  } else if (name == "FlowMatchEulerDiscreteScheduler") {
    c.solver = SchedulerConfig::Solver::euler;
    c.shift = static_cast<float>(file.number("shift", 1e-3, 1e3, 1.0));
  } else {
    file.reject("_class_name", "UniPCMultistepScheduler or FlowMatchEulerDiscreteScheduler");
  }
  return c;
}

bool same_sizes(const TransformerConfig& a, const TransformerConfig& b) {
  return a.patch == b.patch && a.heads == b.heads && a.head_dim == b.head_dim &&
         a.in_channels == b.in_channels && a.out_channels == b.out_channels &&
         a.text_dim == b.text_dim && a.freq_dim == b.freq_dim && a.ffn_dim == b.ffn_dim &&
         a.layers == b.layers && a.eps == b.eps && a.text_length == b.text_length;
}

// Reads the parts' configurations and checks that they belong together.
void read_parts(ModelFolder& m) {
  const std::string where = m.root.string();
  m.transformer_config = read_transformer_config(m.transformer);
  if (!m.transformer_2.empty() &&
      !same_sizes(m.transformer_config, read_transformer_config(m.transformer_2)))
    fail(ExitCode::bad_data, "{}: expected two experts of one size, found other sizes in {}", where,
         m.transformer_2.string());
  if (!m.vae.empty()) m.vae_config = read_vae_config(m.vae);
  if (!m.text_encoder.empty()) m.text_encoder_config = read_text_encoder_config(m.text_encoder);
  const TransformerConfig& t = m.transformer_config;
  if (m.vae_config && m.vae_config->z_dim != t.in_channels)
    fail(ExitCode::bad_data,
         "{}: expected a VAE with {} latent channels as the transformer has, "
         "found {}",
         where, t.in_channels, m.vae_config->z_dim);
  if (m.text_encoder_config && m.text_encoder_config->d_model != t.text_dim)
    fail(ExitCode::bad_data,
         "{}: expected a text encoder of width {} as the transformer has, found "
         "{}",
         where, t.text_dim, m.text_encoder_config->d_model);
}

bool looks_like_5b(const TransformerConfig& c) {
  return c.in_channels == 48;
}

ModelFolder read_diffusers(const fs::path& root) {
  const ConfigFile index(root / "model_index.json");
  refuse_family(index, root);
  ModelFolder m;
  m.root = root;
  m.transformer = component(index, root, "transformer");
  if (m.transformer.empty())
    fail(ExitCode::missing_input, "{}: expected a folder transformer", root.string());
  m.transformer_2 = component(index, root, "transformer_2");
  if (m.transformer_2.empty() && has_component(index, "transformer_2"))
    fail(ExitCode::missing_input, "{}: expected a folder transformer_2", root.string());
  m.vae = component(index, root, "vae");
  m.text_encoder = component(index, root, "text_encoder");
  m.tokenizer = component(index, root, "tokenizer");
  m.expand_timesteps = index.boolean("expand_timesteps", false);
  if (index.has("boundary_ratio")) m.boundary_ratio = index.number("boundary_ratio", 0, 1);
  if (m.boundary_ratio.has_value() != !m.transformer_2.empty())
    fail(ExitCode::bad_data,
         "{}: expected transformer_2 and boundary_ratio together, found one of "
         "them",
         index.where());
  const fs::path scheduler = root / "scheduler" / "scheduler_config.json";
  if (has_component(index, "scheduler")) m.scheduler = read_scheduler(scheduler);
  read_parts(m);
  m.variant = !m.transformer_2.empty()                                    ? "Wan2.2 T2V-A14B"
              : m.expand_timesteps || looks_like_5b(m.transformer_config) ? "Wan2.2 TI2V-5B"
                                                                          : "Wan2.1 T2V";
  return m;
}

// The one file whose tensors are a part of the model; empty when there is none.
fs::path find_by_content(const fs::path& root, bool (*belongs)(const std::vector<std::string>&)) {
  fs::path found;
  for (const std::string& name : files_in(root)) {
    if (!name.ends_with(".safetensors") || name.starts_with("diffusion_pytorch_model")) continue;
    const SafetensorsFile file(root / name);
    std::vector<std::string> names;
    for (const SafetensorsEntry& entry : file.entries())
      names.emplace_back(without_prefix(entry.name));
    if (!belongs(names)) continue;
    if (!found.empty())
      fail(ExitCode::bad_data,
           "{}: expected one file for each part of the model, found {} and {} "
           "for the same part",
           root.string(), found.filename().string(), name);
    found = root / name;
  }
  return found;
}

// The released folders hold these two as pickles.
void refuse_pickle(const fs::path& root, bool (*of_part)(const std::string&)) {
  for (const std::string& name : files_in(root))
    if (name.ends_with(".pth") && of_part(name))
      fail(ExitCode::bad_data,
           "{} is a PyTorch pickle, which can run code when it is read: convert "
           "to safetensors",
           (root / name).string());
}

fs::path original_transformer_path(const fs::path& root) {
  if (has_weights(root)) return root;
  const fs::path file = find_by_content(root, names_transformer);
  if (!file.empty()) return file;
  refuse_other_weights(root);
  fail(ExitCode::missing_input,
       "{}: expected model_index.json or the weights of a Wan transformer, "
       "found neither",
       root.string());
}

ModelFolder read_original(const fs::path& root) {
  ModelFolder m;
  m.root = root;
  const bool experts = fs::is_directory(root / "high_noise_model");
  if (experts) {
    m.transformer = root / "high_noise_model";
    m.transformer_2 = root / "low_noise_model";
    if (!fs::is_directory(m.transformer_2))
      fail(ExitCode::missing_input, "{}: expected a folder low_noise_model", root.string());
    m.boundary_ratio = kA14bBoundary;
  } else {
    m.transformer = original_transformer_path(root);
  }
  m.vae = find_by_content(root, names_vae);
  if (m.vae.empty())
    refuse_pickle(root, [](const std::string& name) { return name.find("VAE") != name.npos; });
  m.text_encoder = find_by_content(root, names_text_encoder);
  if (m.text_encoder.empty())
    refuse_pickle(root, [](const std::string& name) { return name.find("t5") != name.npos; });
  for (const char* folder : {"tokenizer", "google/umt5-xxl"})
    if (fs::is_directory(root / folder)) m.tokenizer = root / folder;
  read_parts(m);
  m.expand_timesteps = looks_like_5b(m.transformer_config);
  m.variant = experts ? "Wan2.2 T2V-A14B" : m.expand_timesteps ? "Wan2.2 TI2V-5B" : "Wan2.1 T2V";
  m.scheduler.shift = experts ? 12.0f : 5.0f;  // the official scripts' defaults
  return m;
}

}  // namespace

VaeConfig ModelFolder::vae_or_released() const {
  VaeConfig released;
  if (expand_timesteps || looks_like_5b(transformer_config)) released.spatial_factor = 16;
  return vae_config.value_or(released);
}

ModelFolder read_model_folder(const fs::path& folder) try {
  if (!fs::exists(folder))
    fail(ExitCode::missing_input, "{}: no such model folder", folder.string());
  if (!fs::is_directory(folder))
    fail(ExitCode::missing_input, "{}: expected a model folder, found a file", folder.string());
  return fs::exists(folder / "model_index.json") ? read_diffusers(folder) : read_original(folder);
} catch (const fs::filesystem_error& error) {
  fail(ExitCode::missing_input, "{}: cannot read: {}", folder.string(), error.code().message());
}

}  // namespace longtake
