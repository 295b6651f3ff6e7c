// The demo model for tests that start the program: copies that may be damaged, and short runs.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/scratch_folder.h"

namespace longtake::testing {

std::filesystem::path demo_configs();  // configs/demo

// A safetensors file in parts; the header keeps its order.
struct WeightsFile {
  nlohmann::ordered_json header;
  std::string data;

  static WeightsFile read(const std::filesystem::path& path);
  std::string bytes() const;
};

inline constexpr const char* kTransformerWeights =
    "transformer/diffusion_pytorch_model.safetensors";
inline constexpr const char* kVaeWeights = "vae/diffusion_pytorch_model.safetensors";
inline constexpr const char* kTextWeights = "text_encoder/model.safetensors";

// A model folder made of links to the real one, so that it costs nothing; what a test changes
// becomes a file of its own.
class DemoModel {
 public:
  DemoModel();
  explicit DemoModel(const std::filesystem::path& original);

  std::filesystem::path root() const { return scratch_ / "model"; }
  std::filesystem::path run() const { return scratch_ / "run"; }
  std::filesystem::path operator/(const std::string& name) const { return root() / name; }

  void remove(const std::string& file) const;
  void replace(const std::string& file, const std::string& bytes) const;
  void set(const std::string& json_file, const std::string& key, const nlohmann::json& value) const;
  void edit(const std::string& weights, const std::function<void(WeightsFile&)>& change) const;

  // A video of five frames in one step into run(), with further flags.
  std::vector<std::string> generate_args() const;
  Outcome generate(const std::vector<std::string>& flags = {},
                   const ProcessOptions& options = {}) const;
  // The same must fail, with one message that has these parts, and leave no run folder.
  void check_refused(int code, const std::vector<std::string>& parts,
                     const std::vector<std::string>& flags = {}) const;

 private:
  ScratchFolder scratch_;
};

// What a run folder holds, by its files: the run was made, `verify --full` finds it good, and it
// has so many blocks.
void check_good_blocks(const std::filesystem::path& run, int64_t blocks);

}  // namespace longtake::testing
