// Finds the safetensors files of a model part: one file, or shards and their index.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace longtake {

struct WeightsFiles {
  std::filesystem::path folder;
  std::vector<std::string> files;              // in `folder`
  std::filesystem::path index;                 // empty for a single file
  std::map<std::string, std::string> file_of;  // tensor -> file, as the index says
};

// `path`: a .safetensors file, an index, or a folder.
WeightsFiles find_weights_files(const std::filesystem::path& path);

// Fails when a folder holds weights that are not safetensors and should be converted.
void refuse_other_weights(const std::filesystem::path& folder);

// Whether a folder holds weights under one of the usual base names.
bool has_weights(const std::filesystem::path& folder);

// Names of the regular files of a folder, sorted.
std::vector<std::string> files_in(const std::filesystem::path& folder);

}  // namespace longtake
