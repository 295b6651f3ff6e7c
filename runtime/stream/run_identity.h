// What a run is: written once, as RUN.json, when its folder is made. A run is continued only with
// the same identity; a finished one also with more frames.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

struct PromptAt {
  int64_t frame = 0;  // of the video
  std::string text;
  bool operator==(const PromptAt&) const = default;
};

struct RunIdentity {
  std::string version;        // of longtake
  std::string uuid;           // given by the store
  std::string configuration;  // resolved, for people
  std::string fingerprint;    // "key: value" lines that must not change when a run is continued
  std::string model;          // "Wan2.1 T2V"
  std::vector<PromptAt> prompts;
  int64_t seed = 0;
  double fps = 16;
  int64_t video_frames = 0;
  // Latents: [frames, channels, height, width] in all.
  int64_t frames = 0, channels = 0, height = 0, width = 0;
};

std::string to_json(const RunIdentity& identity);
// `path` is named in messages only. Fails with bad_data.
RunIdentity parse_run_identity(std::string_view text, const std::filesystem::path& path);

std::string new_uuid();  // random, version 4

// Lines of the fingerprint that a longer video changes.
std::string frames_line(int64_t video_frames);
std::string prompt_line(const PromptAt& prompt);

// Whether a run that is finished as `before` can be made longer to `now`: more frames, and prompts
// that begin where `before` ends may be others; all else is the same. Empty, or what is against it.
std::string extension_problem(const RunIdentity& before, const RunIdentity& now);

// Empty when equal, else the first pair of lines that differ: "`steps: 20` in RUN, `steps: 16`
// now".
std::string first_difference(std::string_view before, std::string_view now);

}  // namespace longtake
