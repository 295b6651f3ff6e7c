// A video file as another program sees it: decoded by libav, and turned into RGB by the formulas of
// BT.709 (limited range), not by the code that is tested.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

extern "C" {
#include <libavutil/pixfmt.h>
}

namespace longtake::testing {

using Picture = std::vector<uint8_t>;  // [height, width, 3]

struct DecodedVideo {
  int width = 0, height = 0;
  std::vector<Picture> pictures;
  double fps = 0;
  AVColorSpace colorspace{};
  double first_second = -1;
};

// Fails the test when the file cannot be decoded.
DecodedVideo decode_video(const std::filesystem::path& path);

}  // namespace longtake::testing
