#include "runtime/stream/run_identity.h"

#include <sys/random.h>

#include <array>
#include <nlohmann/json.hpp>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr int kFormat = 1;
using Json = nlohmann::ordered_json;

std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// An object of RUN.json: what it should hold is read or named.
struct Description {
  const Json& json;
  const std::filesystem::path& path;

  template <class T>
  T get(const char* key, const char* expected) const {
    try {
      return json.at(key).get<T>();
    } catch (const nlohmann::json::exception& e) {
      fail(ExitCode::bad_data, "{}: field `{}`: expected {}: {}", path.string(), key, expected,
           e.what());
    }
  }
  int64_t number(const char* key) const { return get<int64_t>(key, "a whole number"); }
  std::string text(const char* key) const { return get<std::string>(key, "a text"); }
};

void check_geometry(const RunIdentity& id, const std::filesystem::path& path) {
  constexpr int64_t kLargest = int64_t{1} << 32;
  for (const int64_t n : {id.frames, id.channels, id.height, id.width}) {
    if (n < 1 || n > kLargest) {
      fail(ExitCode::bad_data, "{}: field `latents`: [{}, {}, {}, {}] are not possible",
           path.string(), id.frames, id.channels, id.height, id.width);
    }
  }
}

}  // namespace

std::string to_json(const RunIdentity& id) {
  Json prompts = Json::array();
  for (const PromptAt& p : id.prompts) prompts.push_back({{"frame", p.frame}, {"text", p.text}});
  const Json json = {
      {"format", kFormat},
      {"version", id.version},
      {"uuid", id.uuid},
      {"model", id.model},
      {"seed", id.seed},
      {"fps", id.fps},
      {"video_frames", id.video_frames},
      {"latents", {id.frames, id.channels, id.height, id.width}},
      {"prompts", prompts},
      {"fingerprint", id.fingerprint},
      {"configuration", id.configuration},
  };
  return json.dump(1) + "\n";
}

RunIdentity parse_run_identity(std::string_view text, const std::filesystem::path& path) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const nlohmann::json::exception& e) {  // names line and column
    fail(ExitCode::bad_data, "{} is not the description of a run: {}", path.string(), e.what());
  }
  const Description of{json, path};
  const int64_t format = of.number("format");
  if (format != kFormat) {
    fail(ExitCode::bad_data, "{}: field `format`: {} found, this version reads format {}",
         path.string(), format, kFormat);
  }
  RunIdentity id;
  id.version = of.text("version");
  id.uuid = of.text("uuid");
  id.model = of.text("model");
  id.seed = of.number("seed");
  id.fps = of.get<double>("fps", "a number");
  id.video_frames = of.number("video_frames");
  const auto latents = of.get<std::array<int64_t, 4>>("latents", "4 numbers");
  id.frames = latents[0], id.channels = latents[1], id.height = latents[2], id.width = latents[3];
  for (const Json& p : of.get<Json::array_t>("prompts", "a list")) {
    const Description prompt{p, path};
    id.prompts.push_back({prompt.number("frame"), prompt.text("text")});
  }
  id.fingerprint = of.text("fingerprint");
  id.configuration = of.text("configuration");
  check_geometry(id, path);
  return id;
}

std::string new_uuid() {
  std::array<unsigned char, 16> bytes{};
  LT_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
           "the system gave no random bytes");
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);  // RFC 4122, 4.4
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", bytes[i]);
  }
  return out;
}

std::string frames_line(int64_t video_frames) {
  return fmt::format("video.frames: {}\n", video_frames);
}

std::string prompt_line(const PromptAt& prompt) {
  return fmt::format("prompt at frame {}: {}\n", prompt.frame, prompt.text);
}

std::string extension_problem(const RunIdentity& before, const RunIdentity& now) {
  // What the first frames of both were made from, both times with the length of `before`.
  const auto of_the_finished = [&](const RunIdentity& id) {
    std::string out = id.fingerprint;
    const auto replace = [&](const std::string& line, const std::string& by) {
      if (const size_t at = out.rfind(line); at != std::string::npos)
        out.replace(at, line.size(), by);
    };
    replace(frames_line(id.video_frames), frames_line(before.video_frames));
    for (const PromptAt& prompt : id.prompts)
      if (prompt.frame >= before.video_frames) replace(prompt_line(prompt), "");
    return out;
  };
  const std::string other = first_difference(of_the_finished(before), of_the_finished(now));
  if (!other.empty()) return other;
  if (now.video_frames < before.video_frames)
    return fmt::format(
        "`video.frames: {}` in the run, `video.frames: {}` now, and a finished run "
        "is made longer, not shorter",
        before.video_frames, now.video_frames);
  return now.frames > before.frames ? "" : "its prompts after the last frame";
}

std::string first_difference(std::string_view before, std::string_view now) {
  while (!before.empty() || !now.empty()) {
    const std::string_view a = take_line(before);
    const std::string_view b = take_line(now);
    if (a != b) return fmt::format("`{}` in the run, `{}` now", a, b);
  }
  return "";
}

}  // namespace longtake
