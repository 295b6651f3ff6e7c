// The libraries behind the latent stream and the video, with the versions that are loaded.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace longtake {

std::vector<std::pair<std::string, std::string>> stream_libraries();

}  // namespace longtake
