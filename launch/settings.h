// The names, ranges and text forms of all settings: one table for the file, the flags and the
// output.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/run_config.h"

namespace longtake {

struct Setting {
  std::string section;  // empty: top level
  std::string key;
  // Returns what is wrong with `text`, or nothing. Relative paths are taken from `folder`.
  std::function<std::string(RunConfig&, std::string_view text, const std::filesystem::path& folder)>
      set;
  std::function<std::string(const RunConfig&)> get;
  bool shapes_latents = false;
  bool is_text = false;  // quoted when written

  std::string name() const { return section.empty() ? key : section + "." + key; }
};

// In the order in which they are written. Prompts are not among them: storyboard.h.
const std::vector<Setting>& settings();
const Setting* find_setting(std::string_view name);  // "sampler.steps"; nullptr: unknown

// What is wrong with the name of a video file, or nothing. Only names of videos are taken, so that
// a slip does not write over COMMIT or a block.
std::string check_video_name(const std::filesystem::path& video);

}  // namespace longtake
