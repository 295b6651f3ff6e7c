#include "runtime/stream/contact_sheet.h"

#include <doctest/doctest.h>
#include <png.h>

#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
  std::vector<int> at(int x, int y) const {
    const uint8_t* p = &rgb[3 * static_cast<size_t>(y * width + x)];
    return {p[0], p[1], p[2]};
  }
};

Image read_png(const std::filesystem::path& path) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_file(&png, path.c_str()));
  png.format = PNG_FORMAT_RGB;
  Image out{static_cast<int>(png.width), static_cast<int>(png.height), {}};
  out.rgb.resize(PNG_IMAGE_SIZE(png));
  REQUIRE(png_image_finish_read(&png, nullptr, out.rgb.data(), 0, nullptr));
  return out;
}

}  // namespace

TEST_CASE("evenly spaced frames, first and last included, stand in a grid") {
  const ScratchFolder scratch;
  const int width = 64, height = 48;
  ContactSheet sheet(401, width, height);

  for (int i = 0; i < 401; ++i) {
    std::vector<uint8_t> rgb(3 * width * height, static_cast<uint8_t>(i / 2));
    sheet.offer(i, rgb.data());
  }
  sheet.write(scratch / "preview.png");

  REQUIRE(sheet.thumbnails() == 20);
  REQUIRE(sheet.columns() == 5);
  const Image found = read_png(scratch / "preview.png");
  // Thumbnails of 128 x 96 with borders of 2.
  REQUIRE(found.width == 5 * 130 + 2);
  REQUIRE(found.height == 4 * 98 + 2);
  CHECK(found.at(0, 0) == std::vector<int>{48, 48, 48});
  for (int i = 0; i < 20; ++i) {
    const int grey = i * 400 / 19 / 2;
    CHECK(found.at(2 + i % 5 * 130, 2 + i / 5 * 98) == std::vector<int>{grey, grey, grey});
    CHECK(found.at(129 + i % 5 * 130, 97 + i / 5 * 98) == std::vector<int>{grey, grey, grey});
  }
}

TEST_CASE("small frames are enlarged by repeating pixels") {
  const ScratchFolder scratch;
  ContactSheet sheet(1, 2, 1);
  const std::vector<uint8_t> rgb = {255, 0, 0, 0, 0, 255};

  sheet.offer(0, rgb.data());
  sheet.write(scratch / "p.png");

  const Image found = read_png(scratch / "p.png");
  REQUIRE(found.width == 128 + 4);
  REQUIRE(found.height == 64 + 4);
  CHECK(found.at(2 + 63, 2 + 63) == std::vector<int>{255, 0, 0});
  CHECK(found.at(2 + 64, 2) == std::vector<int>{0, 0, 255});
}

TEST_CASE("large frames are reduced by averaging") {
  const ScratchFolder scratch;
  const int width = 832, height = 480;  // a third: 277 x 160
  std::vector<uint8_t> rgb(3 * width * height, 0);
  for (int i = 0; i < width * height; ++i) {
    rgb[3 * i] = i % width % 3 == 0 ? 90 : 0;
    rgb[3 * i + 1] = static_cast<uint8_t>(i / width / 3);
    rgb[3 * i + 2] = static_cast<uint8_t>(i % width / 3 % 256);
  }
  ContactSheet sheet(2, width, height);

  sheet.offer(1, rgb.data());
  sheet.write(scratch / "p.png");

  const Image found = read_png(scratch / "p.png");
  REQUIRE(found.width == 2 * 279 + 2);
  REQUIRE(found.height == 162 + 2);
  CHECK(found.at(10, 10) == std::vector<int>{48, 48, 48});
  // Place (19, 98) of the second thumbnail, which begins at (281, 2).
  CHECK(found.at(300, 100) == std::vector<int>{30, 98, 19});
}

TEST_CASE("a place that cannot be written is named") {
  const ScratchFolder scratch;
  const ContactSheet sheet(1, 16, 16);

  const Error error = error_of([&] { sheet.write(scratch / "no/p.png"); });

  CHECK(error.code() == ExitCode::cannot_create);
  CHECK(mentions(error, "no/.tmp.p.png"));
}

}  // namespace longtake
