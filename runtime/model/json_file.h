// A JSON file as a tree. Only for .cc files of this folder: the JSON library is no part of any
// contract.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace longtake {

// An object. Fails with the file's name when it is missing, no JSON, no object, or names a key
// twice.
nlohmann::json read_json_file(const std::filesystem::path& path);

}  // namespace longtake
