#include "launch/storyboard.h"

#include <charconv>
#include <cmath>

#include "kernels/base/error.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 20;
constexpr size_t kLongestPrompt = 100'000;
constexpr double kLatest = 1e9;

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
}

}  // namespace

int64_t StoryTime::frame(double fps) const {
  return std::llround(in_frames ? value : value * fps);
}

std::optional<StoryTime> parse_story_time(std::string_view text) {
  text = trim(text);
  StoryTime time;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), time.value);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  if (error != std::errc() || !(time.value >= 0 && time.value <= kLatest)) return std::nullopt;
  time.in_frames = unit == "f";
  if (time.in_frames && time.value != std::floor(time.value)) return std::nullopt;
  if (unit != "s" && unit != "f" && !(unit.empty() && time.value == 0)) return std::nullopt;
  return time;
}

std::vector<StoryLine> parse_prompt_file(std::string_view text, const std::string& name,
                                         Problems& problems) {
  std::vector<StoryLine> out;
  int untimed = 0;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    const std::string where = fmt::format("{}:{}", name, number);
    std::optional<StoryTime> time = StoryTime{};
    const size_t close = line.front() == '[' ? line.find(']') : std::string_view::npos;
    if (close == std::string_view::npos) {
      ++untimed;
    } else if ((time = parse_story_time(line.substr(1, close - 1)))) {
      line = trim(line.substr(close + 1));
    } else {
      problems.add(where, fmt::format("expected a time such as [6s] or [96f], found `{}`",
                                      line.substr(0, close + 1)));
    }
    out.push_back({time, std::string(line), where});
  }
  if (untimed > 0 && out.size() > 1) {
    problems.add(name, "with several lines each needs a time, for instance `[6s] text`");
  }
  if (out.empty()) problems.add(name, "holds no prompt");
  return out;
}

std::vector<StoryLine> read_prompt_file(const std::filesystem::path& path, Problems& problems) {
  return parse_prompt_file(read_file(path, kLargestFile), path.string(), problems);
}

std::vector<PromptAt> resolve_story(const std::vector<StoryLine>& lines, double fps,
                                    Problems& problems) {
  std::vector<PromptAt> out;
  for (const StoryLine& line : lines) {
    if (!line.at) continue;
    const int64_t frame = line.at->frame(fps);
    if (out.empty() && frame != 0) {
      problems.add(line.where, "the first prompt must be at 0s");
    } else if (!out.empty() && frame <= out.back().frame) {
      problems.add(line.where,
                   fmt::format("frame {} does not come after frame {} of the prompt before", frame,
                               out.back().frame));
    }
    if (!is_utf8(line.prompt)) problems.add(line.where, "the prompt is not UTF-8");
    if (line.prompt.size() > kLongestPrompt) {
      problems.add(line.where, fmt::format("the prompt has {} bytes, expected at most {}",
                                           line.prompt.size(), kLongestPrompt));
    }
    out.push_back({frame, line.prompt});
  }
  return out;
}

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF; no NUL either, which C APIs
// cut at.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead == 0 || (lead >= 0x80 && lead < 0xc2) || lead > 0xf4) return false;
    if (length > text.size() - i) return false;
    uint32_t code = length == 1 ? lead : lead & (0xffu >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0u) != 0x80) return false;
      code = (code << 6) | (next & 0x3fu);
    }
    if (length == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) return false;
    if (length == 4 && (code < 0x10000 || code > 0x10ffff)) return false;
    i += length;
  }
  return true;
}

}  // namespace longtake
