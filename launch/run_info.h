// What `longtake info RUN` says.
#pragma once

#include <filesystem>
#include <string>

namespace longtake {

std::string describe_run(const std::filesystem::path& run);

}  // namespace longtake
