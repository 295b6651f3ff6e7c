// YAML as this program takes it: one document of plain values. Anchors, aliases and tags are
// problems.
#pragma once

#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>

#include "launch/problems.h"

namespace longtake {

// "run.yaml:12".
std::string yaml_place(const std::string& name, const YAML::Mark& mark);

// The document's tree, a map or null (an empty file); `name` stands in messages. Empty when it
// cannot be read: `problems` says why.
std::optional<YAML::Node> load_plain_yaml(const std::string& text, const std::string& name,
                                          Problems& problems);

}  // namespace longtake
