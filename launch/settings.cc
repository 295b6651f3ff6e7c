#include "launch/settings.h"

#include <charconv>
#include <cmath>
#include <utility>

#include "kernels/base/error.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;

struct IntegerRange {
  int64_t low, high;
  int64_t multiple = 1;
};
struct NumberRange {
  double low, high;
  bool above_low = false;  // low itself is excluded
};

std::string parse(std::string_view text, const IntegerRange& range, int64_t& out) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < range.low ||
      value > range.high || value % range.multiple != 0) {
    const std::string multiple =
        range.multiple == 1 ? "" : fmt::format(", a multiple of {}", range.multiple);
    return fmt::format("expected a whole number from {} to {}{}, found `{}`", range.low, range.high,
                       multiple, text);
  }
  out = value;
  return "";
}

std::string parse(std::string_view text, const NumberRange& range, double& out) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      value < range.low || value > range.high || (range.above_low && value == range.low)) {
    return fmt::format("expected a number {} {} up to {}, found `{}`",
                       range.above_low ? "above" : "from", range.low, range.high, text);
  }
  out = value;
  return "";
}

template <class Range, class T>
std::string parse(std::string_view text, const Range& range, std::optional<T>& out) {
  if (text == "auto") {
    out.reset();
    return "";
  }
  T value{};
  std::string problem = parse(text, range, value);
  if (problem.empty())
    out = value;
  else
    problem.insert(problem.find(", found"), ", or auto");
  return problem;
}

template <class T>
std::string text_of(const T& value) {
  return fmt::format("{}", value);
}
template <class T>
std::string text_of(const std::optional<T>& value) {
  return value ? text_of(*value) : "auto";
}

template <class Range, class Field>
Setting number(const char* section, const char* key, bool shapes, Range range, Field field) {
  return {section,
          key,
          [range, field](RunConfig& c, std::string_view text, const fs::path&) {
            return parse(text, range, field(c));
          },
          [field](const RunConfig& c) { return text_of(field(c)); },
          shapes,
          false};
}

// `names`: text and value, the first text of a value is the one written.
template <class T, class Field>
Setting choice(const char* section, const char* key, bool shapes,
               std::vector<std::pair<std::string, T>> names, Field field) {
  const auto set = [names, field](RunConfig& c, std::string_view text, const fs::path&) {
    std::string known;
    for (const auto& [name, value] : names) {
      if (name == text) {
        field(c) = value;
        return std::string();
      }
      known += (known.empty() ? "" : ", ") + name;
    }
    return fmt::format("expected one of {}, found `{}`", known, text);
  };
  const auto get = [names, field](const RunConfig& c) {
    for (const auto& [name, value] : names) {
      if (value == field(c)) return name;
    }
    return std::string();
  };
  return {section, key, set, get, shapes, false};
}

std::string check_path(std::string_view text) {
  return text.find('\0') == std::string_view::npos ? "" : "a path cannot hold a NUL byte";
}

// A relative path stands for one in `folder`.
template <class Field>
Setting path(const char* section, const char* key, bool shapes, Field field) {
  const auto set = [field](RunConfig& c, std::string_view text, const fs::path& folder) {
    const fs::path given(text);
    field(c) = given.empty() || given.is_absolute() ? given : (folder / given).lexically_normal();
    return check_path(text);
  };
  return {section, key, set, [field](const RunConfig& c) { return field(c).string(); },
          shapes,  true};
}

// Relative to the run folder.
Setting video_path() {
  const auto set = [](RunConfig& c, std::string_view text, const fs::path&) {
    c.output.video = text;
    const std::string wrong = check_path(text);
    return wrong.empty() ? check_video_name(c.output.video) : wrong;
  };
  return {"output", "video", set, [](const RunConfig& c) { return c.output.video.string(); },
          false,    true};
}

// auto, off or the side of a tile. Tiles lie three quarters of it apart, and that is a whole number
// of latent positions.
Setting vae_tiles() {
  constexpr IntegerRange kSide{64, 16384, 64};
  const auto set = [kSide](RunConfig& c, std::string_view text, const fs::path&) {
    if (text == "off") {
      c.output.vae_tiles = 0;
      return std::string();
    }
    std::string problem = parse(text, kSide, c.output.vae_tiles);
    if (!problem.empty()) problem.replace(problem.find(", or auto"), 9, ", auto or off");
    return problem;
  };
  const auto get = [](const RunConfig& c) {
    return c.output.vae_tiles == 0 ? "off" : text_of(c.output.vae_tiles);
  };
  return {"output", "vae_tiles", set, get, false, false};
}

// The name of a table that comes with the program, or a file: what has a slash or ends in .yaml.
Setting model_sizes() {
  const auto set = [](RunConfig& c, std::string_view text, const fs::path& folder) {
    const fs::path given(text);
    const bool is_file = text.find('/') != text.npos || given.extension() == ".yaml";
    c.model_sizes = is_file && given.is_relative() ? (folder / given).lexically_normal().string()
                                                   : std::string(text);
    return check_path(text);
  };
  return {"", "model_sizes", set, [](const RunConfig& c) { return c.model_sizes; }, false, true};
}

Setting negative_prompt() {
  const auto set = [](RunConfig& c, std::string_view text, const fs::path&) {
    if (!is_utf8(text)) return std::string("the negative prompt is not UTF-8");
    c.negative_prompt = text;
    return std::string();
  };
  return {"",  "negative_prompt", set, [](const RunConfig& c) { return c.negative_prompt; }, true,
          true};
}

#define LT_FIELD(member) \
  [](auto& c) -> auto& { \
    return c.member;     \
  }

std::vector<Setting> model_settings() {
  using Solver = SchedulerConfig::Solver;
  constexpr NumberRange kGuidance{0, 1000};
  return {
      path("", "model", false, LT_FIELD(model)),  // its weights count, not where they are
      model_sizes(),
      negative_prompt(),
      number("video", "width", true, IntegerRange{16, 16384, 16}, LT_FIELD(video.width)),
      number("video", "height", true, IntegerRange{16, 16384, 16}, LT_FIELD(video.height)),
      number("video", "frames", true, IntegerRange{1, 10'000'000}, LT_FIELD(video.frames)),
      number("video", "fps", true, NumberRange{0, 1000, true}, LT_FIELD(video.fps)),
      choice<std::optional<Solver>>(
          "sampler", "solver", true,
          {{"auto", std::nullopt}, {"unipc", Solver::unipc}, {"euler", Solver::euler}},
          LT_FIELD(sampler.solver)),
      number("sampler", "steps", true, IntegerRange{1, 10'000}, LT_FIELD(sampler.steps)),
      number("sampler", "guidance", true, kGuidance, LT_FIELD(sampler.guidance)),
      number("sampler", "guidance_2", true, kGuidance, LT_FIELD(sampler.guidance_2)),
      number("sampler", "boundary_ratio", true, NumberRange{0, 1},
             LT_FIELD(sampler.boundary_ratio)),
      number("sampler", "shift", true, NumberRange{0, 1000, true}, LT_FIELD(sampler.shift)),
      number("sampler", "seed", true, IntegerRange{-1, INT64_MAX}, LT_FIELD(sampler.seed)),
  };
}

std::vector<Setting> run_settings() {
  return {
      choice<ContextRule>("context", "rule", true,
                          {{"dualparal", ContextRule::dualparal},
                           {"aligned", ContextRule::aligned},
                           {"causal", ContextRule::causal},
                           {"isolated", ContextRule::isolated}},
                          LT_FIELD(context.rule)),
      number("context", "block", true, IntegerRange{1, 4096}, LT_FIELD(context.block)),
      number("context", "overlap", true, IntegerRange{0, 4096}, LT_FIELD(context.overlap)),
      number("context", "stagger", true, IntegerRange{1, 10'000}, LT_FIELD(context.stagger)),
      number("parallel", "branches", false, IntegerRange{1, 2}, LT_FIELD(parallel.branches)),
      number("parallel", "stages", false, IntegerRange{1, 1'000}, LT_FIELD(parallel.stages)),
      number("parallel", "workers", false, IntegerRange{0, 100'000}, LT_FIELD(parallel.workers)),
      choice<bool>("parallel", "accept_workers", false, {{"off", false}, {"on", true}},
                   LT_FIELD(parallel.accept_workers)),
      choice<bool>("parallel", "serve_attention", false, {{"off", false}, {"on", true}},
                   LT_FIELD(parallel.serve_attention)),
      choice<TransportChoice>("parallel", "transport", false,
                              {{"auto", TransportChoice::automatic},
                               {"loopback", TransportChoice::loopback},
                               {"mpi", TransportChoice::mpi},
                               {"nccl", TransportChoice::nccl},
                               {"ipc", TransportChoice::ipc}},
                              LT_FIELD(parallel.transport)),
      choice<DeviceChoice>("", "device", true,
                           {{"auto", DeviceChoice::automatic},
                            {"cpu", DeviceChoice::cpu},
                            {"cuda", DeviceChoice::cuda}},
                           LT_FIELD(device)),
      choice<Precision>(
          "", "precision", true,
          {{"auto", Precision::automatic}, {"f32", Precision::f32}, {"bf16", Precision::bf16}},
          LT_FIELD(precision)),
      choice<OffloadChoice>("", "offload", false,
                            {{"auto", OffloadChoice::automatic},
                             {"on", OffloadChoice::on},
                             {"off", OffloadChoice::off}},
                            LT_FIELD(offload)),
      number("checkpoint", "every", false, IntegerRange{1, 1'000'000}, LT_FIELD(checkpoint.every)),
      number("checkpoint", "maxh", false, NumberRange{0, 100'000}, LT_FIELD(checkpoint.maxh)),
      path("input", "prompt_embeds", false, LT_FIELD(input.prompt_embeds)),
      path("input", "noise", false, LT_FIELD(input.noise)),
      path("output", "run", false, LT_FIELD(output.run)),
      video_path(),
      vae_tiles(),
      choice<bool>("output", "latents_only", false, {{"false", false}, {"true", true}},
                   LT_FIELD(output.latents_only)),
  };
}

#undef LT_FIELD

}  // namespace

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = [] {
    std::vector<Setting> out = model_settings();
    for (Setting& s : run_settings()) out.push_back(std::move(s));
    return out;
  }();
  return all;
}

std::string check_video_name(const std::filesystem::path& video) {
  if (video.extension() == ".mp4") return "";
  return fmt::format("expected a name that ends in .mp4, found `{}`", video.string());
}

const Setting* find_setting(std::string_view name) {
  for (const Setting& s : settings()) {
    if (s.name() == name) return &s;
  }
  return nullptr;
}

}  // namespace longtake
