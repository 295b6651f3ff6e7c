#include "tests/cli/demo.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/base/error.h"
#include "tests/stream/sample_run.h"
#include "tests/support/safetensors_writer.h"

namespace longtake::testing {

namespace fs = std::filesystem;

fs::path demo_configs() {
  const char* source = std::getenv("LONGTAKE_SOURCE_DIR");
  LT_CHECK(source, "run the tests with ctest, or set LONGTAKE_SOURCE_DIR");
  return fs::path(source) / "configs" / "demo";
}

WeightsFile WeightsFile::read(const fs::path& path) {
  const std::string all = contents(path);
  uint64_t length = 0;
  LT_CHECK(all.size() > sizeof length, "{} is empty", path.string());
  std::memcpy(&length, all.data(), sizeof length);
  return {nlohmann::ordered_json::parse(all.substr(sizeof length, length)),
          all.substr(sizeof length + length)};
}

std::string WeightsFile::bytes() const {
  return safetensors_bytes(header.dump(), data);
}

DemoModel::DemoModel() : DemoModel(demo_configs() / "model") {}

DemoModel::DemoModel(const fs::path& original) {
  for (const auto& entry : fs::recursive_directory_iterator(original)) {
    const fs::path to = root() / fs::relative(entry.path(), original);
    fs::create_directories(entry.is_directory() ? to : to.parent_path());
    if (entry.is_regular_file()) fs::create_symlink(entry.path(), to);
  }
}

void DemoModel::remove(const std::string& file) const {
  LT_CHECK(fs::remove_all(root() / file) > 0, "no {} in the model", file);
}

void DemoModel::replace(const std::string& file, const std::string& bytes) const {
  fs::remove(root() / file);
  write_bytes(root() / file, bytes);
}

void DemoModel::set(const std::string& json_file, const std::string& key,
                    const nlohmann::json& value) const {
  nlohmann::json tree = nlohmann::json::parse(contents(root() / json_file));
  tree[key] = value;
  replace(json_file, tree.dump());
}

void DemoModel::edit(const std::string& weights,
                     const std::function<void(WeightsFile&)>& change) const {
  WeightsFile file = WeightsFile::read(root() / weights);
  change(file);
  replace(weights, file.bytes());
}

std::vector<std::string> DemoModel::generate_args() const {
  return {"generate",      "--model",      root(),    "-o",     run(),
          "--size",        "64x64",        "--steps", "1",      "-p",
          "a circle",      "--num-frames", "5",       "--seed", "7",
          "--no-progress", "--threads",    "1"};
}

Outcome DemoModel::generate(const std::vector<std::string>& flags,
                            const ProcessOptions& options) const {
  std::vector<std::string> args = generate_args();
  args.insert(args.end(), flags.begin(), flags.end());
  return testing::run(args, options);
}

void DemoModel::check_refused(int code, const std::vector<std::string>& parts,
                              const std::vector<std::string>& flags) const {
  check_failed(generate(flags), code, parts);
  CHECK_MESSAGE(!fs::exists(run()), "a run folder was left");
}

void check_good_blocks(const fs::path& run, int64_t blocks) {
  const Outcome verify = testing::run({"verify", "--full", run});
  CHECK_MESSAGE(verify.code == 0, verify.err);
  check_mentions(verify.out + verify.err, std::to_string(blocks) + " block");
  for (const auto& entry : fs::recursive_directory_iterator(run))
    CHECK_MESSAGE(entry.path().filename().string().find(".tmp.") == std::string::npos,
                  "left behind: " << entry.path().string());
}

}  // namespace longtake::testing
