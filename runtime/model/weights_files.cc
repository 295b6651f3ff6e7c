#include "runtime/model/weights_files.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>

#include "kernels/base/error.h"
#include "runtime/model/json_file.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {
constexpr std::string_view kBases[] = {"diffusion_pytorch_model", "model"};
constexpr std::string_view kData = ".safetensors";
constexpr std::string_view kIndex = ".safetensors.index.json";
constexpr std::string_view kPickles[] = {".pth", ".pt", ".bin", ".ckpt"};

void check_shard_name(const std::string& shard, const std::string& where) {
  if (shard.empty() || shard.find('/') != std::string::npos ||
      shard.find('\\') != std::string::npos || shard.find("..") != std::string::npos)
    fail(ExitCode::bad_data,
         "{}: expected the name of a file in the same folder, found the shard "
         "\"{}\"",
         where, shard);
  if (!shard.ends_with(kData))
    fail(ExitCode::bad_data, "{}: the shard \"{}\" is no .safetensors file: convert to safetensors",
         where, shard);
}

WeightsFiles read_index(const fs::path& path) {
  const std::string where = path.string();
  const nlohmann::json index = read_json_file(path);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    fail(ExitCode::bad_data, "{}: expected an object \"weight_map\" of tensor names and files",
         where);
  WeightsFiles out{path.parent_path(), {}, path, {}};
  std::set<std::string> files;
  for (const auto& [name, shard] : map->items()) {
    if (!shard.is_string())
      fail(ExitCode::bad_data, "{}: expected a file name for tensor {}, found {}", where, name,
           shard.type_name());
    const auto& file = shard.get_ref<const std::string&>();
    check_shard_name(file, where);
    files.insert(file);
    out.file_of[name] = file;
  }
  for (const std::string& file : files)
    if (!fs::exists(out.folder / file))
      fail(ExitCode::missing_input, "{}: the shard {} is not there", where, file);
  out.files.assign(files.begin(), files.end());
  return out;
}

std::string list(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

WeightsFiles choose_in_folder(const fs::path& folder) {
  const std::vector<std::string> names = files_in(folder);
  const auto there = [&](const std::string& name) {
    return std::binary_search(names.begin(), names.end(), name);
  };
  for (const std::string_view base : kBases) {
    if (there(fmt::format("{}{}", base, kIndex)))
      return read_index(folder / fmt::format("{}{}", base, kIndex));
    if (there(fmt::format("{}{}", base, kData)))
      return {folder, {fmt::format("{}{}", base, kData)}, {}, {}};
  }
  std::vector<std::string> indexes, singles;
  for (const std::string& name : names) {
    if (name.ends_with(kIndex)) indexes.push_back(name);
    if (name.ends_with(kData)) singles.push_back(name);
  }
  if (indexes.size() == 1) return read_index(folder / indexes[0]);
  if (indexes.empty() && singles.size() == 1) return {folder, singles, {}, {}};
  if (indexes.empty() && singles.empty()) {
    refuse_other_weights(folder);
    fail(ExitCode::missing_input, "{}: no .safetensors weights in this folder", folder.string());
  }
  fail(ExitCode::bad_data, "{}: expected one set of weights, found {}", folder.string(),
       list(indexes.empty() ? singles : indexes));
}

}  // namespace

std::vector<std::string> files_in(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (!it->is_directory(error)) names.push_back(it->path().filename().string());
  if (error) fail(ExitCode::missing_input, "{}: cannot read: {}", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void refuse_other_weights(const fs::path& folder) {
  const std::vector<std::string> names = files_in(folder);
  for (const std::string& name : names)
    for (const std::string_view pickle : kPickles)
      if (name.ends_with(pickle))
        fail(ExitCode::bad_data,
             "{}: expected .safetensors weights, found the PyTorch pickle {}: convert to "
             "safetensors",
             folder.string(), name);
  for (const std::string& name : names)
    if (name.ends_with(".gguf"))
      fail(ExitCode::bad_data,
           "{}: expected .safetensors weights, found the GGUF file {}: convert to safetensors "
           "(f32, bf16 or f16)",
           folder.string(), name);
}

bool has_weights(const fs::path& folder) {
  for (const std::string_view base : kBases)
    for (const std::string_view ending : {kIndex, kData})
      if (fs::exists(folder / fmt::format("{}{}", base, ending))) return true;
  return false;
}

WeightsFiles find_weights_files(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    fail(ExitCode::missing_input, "{}: {}", path.string(),
         error ? error.message() : "no such file or folder");
  if (fs::is_directory(path)) return choose_in_folder(path);
  if (path.filename().string().ends_with(kIndex)) return read_index(path);
  return {path.parent_path(), {path.filename().string()}, {}, {}};
}

}  // namespace longtake
