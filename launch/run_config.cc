#include "launch/run_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/base/error.h"
#include "launch/settings.h"

namespace longtake {

namespace {

constexpr size_t kLongestFolderName = 48;

void finish_frames(RunConfig& c, Problems& problems, std::vector<std::string>& notices) {
  if (c.video.seconds) {
    const double frames = std::round(*c.video.seconds * c.video.fps);
    if (!(frames >= 1 && frames <= 10'000'000)) {
      problems.add("--seconds",
                   fmt::format("{} s at {} frames per second are {} frames, expected 1 to "
                               "10000000",
                               *c.video.seconds, c.video.fps, frames));
      return;
    }
    c.video.frames = static_cast<int64_t>(frames);
    c.video.seconds.reset();
  }
  // The VAE makes four frames of each latent frame but the first.
  const int64_t rounded = (c.video.frames - 1) / 4 * 4 + 1;
  if (rounded != c.video.frames) {
    notices.push_back(
        fmt::format("{} frames are rounded down to {} (4k + 1)", c.video.frames, rounded));
    c.video.frames = rounded;
  }
}

void finish_prompts(RunConfig& c, Problems& problems, std::vector<std::string>& notices) {
  if (c.storyboard.empty() && c.input.prompt_embeds.empty()) {
    problems.add("", "no prompt: give `prompt` or `storyboard` in the file, or --prompt");
  }
  c.prompts = resolve_story(c.storyboard, c.video.fps, problems);
  const auto late = std::count_if(c.prompts.begin(), c.prompts.end(),
                                  [&](const PromptAt& p) { return p.frame >= c.video.frames; });
  if (late > 0) {
    notices.push_back(fmt::format("{} of {} prompts begin after the last of {} frames: not used",
                                  late, c.prompts.size(), c.video.frames));
  }
}

std::string folder_name(const RunConfig& c) {
  std::string out;
  for (const char ch : c.prompts.empty() ? "video" : c.prompts.front().text) {
    const auto byte = static_cast<unsigned char>(ch);
    if (byte < 0x80 && std::isalnum(byte))
      out += static_cast<char>(std::tolower(byte));
    else if (!out.empty() && out.back() != '-')
      out += '-';
    if (out.size() == kLongestFolderName) break;
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return fmt::format("{}-{}", out.empty() ? "video" : out, c.sampler.seed);
}

void write_prompts(YAML::Emitter& yaml, const RunConfig& c) {
  if (c.prompts.empty()) return;
  if (c.prompts.size() == 1) {
    yaml << YAML::Key << "prompt" << YAML::Value << YAML::DoubleQuoted << c.prompts.front().text;
    return;
  }
  yaml << YAML::Key << "storyboard" << YAML::Value << YAML::BeginSeq;
  for (const PromptAt& p : c.prompts) {
    yaml << YAML::Flow << YAML::BeginMap << YAML::Key << "at" << YAML::Value
         << fmt::format("{}f", p.frame) << YAML::Key << "prompt" << YAML::Value
         << YAML::DoubleQuoted << p.text << YAML::EndMap;
  }
  yaml << YAML::EndSeq;
}

}  // namespace

void finish_shape(RunConfig& c, Problems& problems, std::vector<std::string>& notices) {
  if (c.context.overlap > c.context.block) {
    problems.add("context", fmt::format("overlap {} is larger than block {}", c.context.overlap,
                                        c.context.block));
  }
  finish_frames(c, problems, notices);
}

void finish(RunConfig& c, Problems& problems, std::vector<std::string>& notices) {
  if (c.model.empty()) problems.add("", "no model: give `model` in the file, or --model");
  finish_shape(c, problems, notices);
  finish_prompts(c, problems, notices);
}

void choose_defaults(RunConfig& c) {
  if (c.sampler.seed < 0) {
    std::random_device source;
    c.sampler.seed = static_cast<int64_t>(source() & 0x7fffffffu);
  }
  if (c.output.run.empty()) c.output.run = std::filesystem::path("runs") / folder_name(c);
}

std::string to_yaml(const RunConfig& c) {
  YAML::Emitter yaml;
  yaml << YAML::BeginMap;
  std::string open;
  for (const Setting& s : settings()) {
    if (s.section != open) {
      if (!open.empty()) yaml << YAML::EndMap;
      if (!s.section.empty()) {
        yaml << YAML::Key << s.section << YAML::Value << YAML::BeginMap;
      }
      open = s.section;
    }
    yaml << YAML::Key << s.key << YAML::Value;
    if (s.is_text) yaml << YAML::DoubleQuoted;
    yaml << s.get(c);
    if (s.name() == "model") write_prompts(yaml, c);
  }
  if (!open.empty()) yaml << YAML::EndMap;
  yaml << YAML::EndMap;
  return std::string(yaml.c_str()) + "\n";
}

std::string fingerprint(const RunConfig& c) {
  std::string out;
  for (const Setting& s : settings()) {
    if (s.shapes_latents) out += fmt::format("{}: {}\n", s.name(), s.get(c));
  }
  for (const PromptAt& p : c.prompts) out += prompt_line(p);
  return out;
}

}  // namespace longtake
