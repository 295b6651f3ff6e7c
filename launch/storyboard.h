// Timed prompts: in a configuration file `{at: 6s, prompt: text}`, in a prompt file lines `[6s]
// text`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/problems.h"
#include "runtime/stream/run_identity.h"

namespace longtake {

struct StoryTime {
  double value = 0;
  bool in_frames = false;  // else seconds
  int64_t frame(double fps) const;
};

struct StoryLine {
  std::optional<StoryTime> at;  // absent: it was given but could not be read
  std::string prompt;
  std::string where;  // "run.yaml:4", for messages
};

std::optional<StoryTime> parse_story_time(std::string_view text);  // "6s", "6.5s", "96f", "0"

// One line per prompt; empty lines and lines that begin with # are skipped; a file of one line may
// leave the time out.
std::vector<StoryLine> parse_prompt_file(std::string_view text, const std::string& name,
                                         Problems& problems);
std::vector<StoryLine> read_prompt_file(const std::filesystem::path& path, Problems& problems);

// In frames. The first must be at 0, times must ascend, texts must be UTF-8 and of reasonable
// length.
std::vector<PromptAt> resolve_story(const std::vector<StoryLine>& lines, double fps,
                                    Problems& problems);

bool is_utf8(std::string_view text);

}  // namespace longtake
