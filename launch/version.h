// What this program is and what it was built with.
#pragma once

#include <string>

namespace longtake {

std::string version();  // "0.1.0"
std::string commit();   // of the sources, "unknown" outside a repository
std::string onednn_version();
std::string version_text();  // for --version: also backends and libraries

}  // namespace longtake
