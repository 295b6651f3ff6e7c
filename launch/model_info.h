// What `longtake info MODEL` says.
#pragma once

#include <filesystem>
#include <string>

namespace longtake {

std::string describe_model(const std::filesystem::path& folder);

}  // namespace longtake
