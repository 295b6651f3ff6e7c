// Reads a YAML configuration into a RunConfig. Unknown keys are problems that name the nearest
// known one.
#pragma once

#include <filesystem>
#include <string>

#include "launch/problems.h"
#include "launch/run_config.h"

namespace longtake {

// `name` stands in messages, relative paths are taken from `folder`. Never fails: all goes to
// `problems`.
bool read_config_text(const std::string& text, const std::string& name,
                      const std::filesystem::path& folder, RunConfig& config, Problems& problems);

// Fails with missing_input when the file cannot be read.
bool read_config_file(const std::filesystem::path& path, RunConfig& config, Problems& problems);

}  // namespace longtake
