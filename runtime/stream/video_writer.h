// Frames to H.264 in an mp4 while they are produced. The file is fragmented, one fragment per
// second, so a player shows what is there at any time; close() turns it into an ordinary mp4 with
// the index in front.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace longtake {

class VideoWriter {
 public:
  // `notice` is called when another encoder than libx264 has to be used.
  using Notice = std::function<void(const std::string&)>;

  // An existing file is replaced. width and height even (4:2:0 chroma).
  VideoWriter(const std::filesystem::path& path, int width, int height, double fps,
              const Notice& notice = {});
  ~VideoWriter();  // without close(): the unfinished file is removed
  VideoWriter(const VideoWriter&) = delete;
  VideoWriter& operator=(const VideoWriter&) = delete;

  void write(const uint8_t* rgb);  // [height, width, 3]
  int64_t frames() const;
  void close();

 private:
  struct Encoder;
  std::unique_ptr<Encoder> encoder_;
  std::filesystem::path path_;
};

}  // namespace longtake
