// preview.png: evenly spaced frames of a video in a grid. Frames are offered one by one; only the
// thumbnails are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace longtake {

class ContactSheet {
 public:
  ContactSheet(int64_t total_frames, int width, int height);

  void offer(int64_t index, const uint8_t* rgb);  // [height, width, 3]
  // Replaces `path`. Places whose frame was not offered yet stay empty, so it can be written at any
  // time.
  void write(const std::filesystem::path& path) const;

  int thumbnails() const { return static_cast<int>(indices_.size()); }
  int columns() const { return columns_; }
  int sheet_width() const;
  int sheet_height() const;

 private:
  void place(size_t thumbnail, const uint8_t* rgb);

  int width_, height_;
  int enlarge_ = 1, reduce_ = 1;  // whole factors, one of them 1
  int thumbnail_width_, thumbnail_height_;
  int columns_ = 1, rows_ = 1;
  std::vector<int64_t> indices_;  // ascending
  std::vector<uint8_t> pixels_;   // [sheet_height, sheet_width, 3]
};

}  // namespace longtake
