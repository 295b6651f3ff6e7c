// Does the demo model make what the prompt says? Twenty prompts of its vocabulary, each with a
// fixed seed, from the program to the frames of the mp4: what moves must have the prompt's colour.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/decoded_video.h"
#include "tests/support/process.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

constexpr int kPrompts = 20;
constexpr int kFrames = 45;
constexpr double kShare = 0.9;  // of the prompts, at least
// RGB distance from the background of a pixel that the shape covers for nine tenths, as in
// configs/demo/training/evaluate.py.
constexpr double kMoved = 0.345 * 255;

constexpr int64_t kLeastMoving = 100;  // pixels in a frame; the smallest shape has about 200

struct Colour {
  const char* name;
  std::array<int, 3> rgb;
};

// configs/demo/training/make_data.py
constexpr std::array<Colour, 7> kPalette = {{{"red", {225, 35, 35}},
                                             {"orange", {255, 140, 0}},
                                             {"yellow", {250, 225, 40}},
                                             {"green", {30, 165, 55}},
                                             {"cyan", {40, 215, 225}},
                                             {"blue", {40, 75, 235}},
                                             {"purple", {150, 45, 190}}}};
constexpr std::array<const char*, 4> kShapes = {"circle", "square", "triangle", "star"};
// Those that change place: what stands still or pulses has no moving colour to tell.
constexpr std::array<const char*, 10> kMotions = {"moving right",
                                                  "moving left",
                                                  "moving up",
                                                  "moving down",
                                                  "moving up and to the right",
                                                  "moving up and to the left",
                                                  "moving down and to the right",
                                                  "moving down and to the left",
                                                  "bouncing off the walls",
                                                  "moving in a circle"};
constexpr std::array<const char*, 5> kBackgrounds = {
    "on a black background", "on a white background", "on a grey background", "on a blue gradient",
    "over a meadow"};

size_t colour_of(size_t prompt) {
  return prompt % kPalette.size();
}

// Every colour two or three times, every shape and motion, every background four times.
std::string prompt_text(size_t i) {
  const std::string colour = kPalette[colour_of(i)].name;
  return (colour == "orange" ? "an " : "a ") + colour + " " + kShapes[i % kShapes.size()] + " " +
         kMotions[3 * i % kMotions.size()] + " " + kBackgrounds[(i + i / 5) % kBackgrounds.size()];
}

double distance(const uint8_t* a, const uint8_t* b) {
  double sum = 0;
  for (int c = 0; c < 3; ++c) sum += (a[c] - b[c]) * (a[c] - b[c]);
  return std::sqrt(sum);
}

// The background: of every number the median over time. A shape that moves covers no place for half
// of it.
Picture median_picture(const std::vector<Picture>& pictures) {
  Picture out(pictures.front().size());
  std::vector<uint8_t> values(pictures.size());
  for (size_t i = 0; i < out.size(); ++i) {
    std::transform(pictures.begin(), pictures.end(), values.begin(),
                   [i](const Picture& p) { return p[i]; });
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    out[i] = *middle;
  }
  return out;
}

size_t nearest_colour(const uint8_t* pixel) {
  size_t best = 0;
  double least = 1e9;
  for (size_t i = 0; i < kPalette.size(); ++i) {
    double sum = 0;
    for (size_t c = 0; c < 3; ++c) sum += std::pow(pixel[c] - kPalette[i].rgb[c], 2);
    if (sum < least) least = sum, best = i;
  }
  return best;
}

// Moving pixels of all frames by their nearest colour.
using Votes = std::array<int64_t, kPalette.size()>;
Votes count_moving(const std::vector<Picture>& pictures) {
  const Picture still = median_picture(pictures);
  Votes votes{};
  for (const Picture& picture : pictures)
    for (size_t i = 0; i < picture.size(); i += 3)
      if (distance(&picture[i], &still[i]) > kMoved) ++votes[nearest_colour(&picture[i])];
  return votes;
}

std::vector<Picture> make_video(const std::string& prompt, size_t seed, const fs::path& folder) {
  const char* source = std::getenv("LONGTAKE_SOURCE_DIR");
  REQUIRE_MESSAGE(source, "LONGTAKE_SOURCE_DIR is set by ctest");
  const Outcome outcome =
      run({"generate", fs::path(source) / "configs/demo/short.yaml", "-p", prompt, "--num-frames",
           std::to_string(kFrames), "--seed", std::to_string(seed), "-o", folder, "-q"});
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  return decode_video(folder / "video.mp4").pictures;
}

}  // namespace

TEST_CASE("what moves has the prompt's colour") {
  const ScratchFolder scratch;
  int right = 0;
  for (size_t i = 0; i < kPrompts; ++i) {
    const std::string prompt = prompt_text(i);
    const auto pictures = make_video(prompt, 100 + i, scratch / std::to_string(i));
    REQUIRE(pictures.size() == kFrames);

    const Votes votes = count_moving(pictures);
    const auto most = std::max_element(votes.begin(), votes.end());
    const auto found = static_cast<size_t>(most - votes.begin());
    int64_t all = 0;
    for (const int64_t v : votes) all += v;
    const bool good = found == colour_of(i) && all >= kFrames * kLeastMoving;
    right += good;
    std::printf("%-66s seed %zu: %s %3.0f %% of %5lld moving pixels%s\n", prompt.c_str(), 100 + i,
                kPalette[found].name,
                all ? 100.0 * static_cast<double>(*most) / static_cast<double>(all) : 0.0,
                static_cast<long long>(all), good ? "" : "  WRONG");
  }
  std::printf("%d of %d prompts\n", right, kPrompts);

  CHECK(right >= kShare * kPrompts);
}

}  // namespace longtake
