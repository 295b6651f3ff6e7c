// The flags of `generate` that are settings: they take the same values as the configuration file.
#pragma once

#include <vector>

namespace longtake {

struct ConfigFlag {
  const char* setting;  // "sampler.steps"
  const char* flags;    // the first is the one shown in messages; the others are what people know
  const char* type;
  const char* group;
  const char* help;
};

const std::vector<ConfigFlag>& config_flags();

}  // namespace longtake
