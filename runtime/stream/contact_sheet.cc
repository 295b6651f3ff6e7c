#include "runtime/stream/contact_sheet.h"

#include <png.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/base/error.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

constexpr int64_t kMostThumbnails = 20;
constexpr int kSmallestSide =
    128;  // pixels of a thumbnail's longer side; smaller frames are enlarged
constexpr int kLargestSide = 384;  // larger ones are reduced
constexpr int kBorder = 2;
constexpr uint8_t kBorderGrey = 48;

}  // namespace

ContactSheet::ContactSheet(int64_t total_frames, int width, int height)
    : width_(width), height_(height) {
  LT_CHECK(total_frames >= 1 && width >= 1 && height >= 1, "no contact sheet of {} frames {} x {}",
           total_frames, width, height);
  const int side = std::max(width, height);
  enlarge_ = side < kSmallestSide ? (kSmallestSide + side - 1) / side : 1;
  reduce_ = (side + kLargestSide - 1) / kLargestSide;
  thumbnail_width_ = std::max(1, width / reduce_) * enlarge_;
  thumbnail_height_ = std::max(1, height / reduce_) * enlarge_;
  const int64_t count = std::min(total_frames, kMostThumbnails);
  for (int64_t i = 0; i < count; ++i) {
    indices_.push_back(count == 1 ? 0 : i * (total_frames - 1) / (count - 1));
  }
  columns_ = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count))));
  rows_ = static_cast<int>((count + columns_ - 1) / columns_);
  pixels_.assign(static_cast<size_t>(sheet_width()) * static_cast<size_t>(sheet_height()) * 3,
                 kBorderGrey);
}

int ContactSheet::sheet_width() const {
  return columns_ * (thumbnail_width_ + kBorder) + kBorder;
}
int ContactSheet::sheet_height() const {
  return rows_ * (thumbnail_height_ + kBorder) + kBorder;
}

void ContactSheet::offer(int64_t index, const uint8_t* rgb) {
  const auto found = std::lower_bound(indices_.begin(), indices_.end(), index);
  if (found != indices_.end() && *found == index) {
    place(static_cast<size_t>(found - indices_.begin()), rgb);
  }
}

// Enlarged by repeating pixels, or reduced by the mean over reduce x reduce pixels.
void ContactSheet::place(size_t thumbnail, const uint8_t* rgb) {
  const int column = static_cast<int>(thumbnail) % columns_;
  const int row = static_cast<int>(thumbnail) / columns_;
  const int left = kBorder + column * (thumbnail_width_ + kBorder);
  const int top = kBorder + row * (thumbnail_height_ + kBorder);
  const int taps = std::min({reduce_, width_, height_});
  for (int y = 0; y < thumbnail_height_; ++y) {
    for (int x = 0; x < thumbnail_width_; ++x) {
      uint8_t* out =
          &pixels_[3 * (static_cast<size_t>(top + y) * static_cast<size_t>(sheet_width()) +
                        static_cast<size_t>(left + x))];
      for (int c = 0; c < 3; ++c) {
        int sum = taps * taps / 2;
        for (int i = 0; i < taps * taps; ++i) {
          const int source_y = y / enlarge_ * reduce_ + i / taps;
          const int source_x = x / enlarge_ * reduce_ + i % taps;
          sum += rgb[3 * (static_cast<int64_t>(source_y) * width_ + source_x) + c];
        }
        out[c] = static_cast<uint8_t>(sum / (taps * taps));
      }
    }
  }
}

void ContactSheet::write(const std::filesystem::path& path) const {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(sheet_width());
  image.height = static_cast<png_uint_32>(sheet_height());
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = 0;
  std::string file;
  bool done = png_image_write_to_memory(&image, nullptr, &bytes, 0, pixels_.data(), 0, nullptr);
  if (done) {
    file.resize(bytes);
    done = png_image_write_to_memory(&image, file.data(), &bytes, 0, pixels_.data(), 0, nullptr);
  }
  if (!done) fail(ExitCode::error, "cannot encode {}: {}", path.string(), image.message);
  file.resize(bytes);
  replace_file(path, file);
}

}  // namespace longtake
