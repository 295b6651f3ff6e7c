#include "launch/config_file.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kernels/base/error.h"
#include "launch/nearest_name.h"
#include "launch/plain_yaml.h"
#include "launch/settings.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 20;

class ConfigReader {
 public:
  ConfigReader(const std::string& name, const std::filesystem::path& folder, RunConfig& config,
               Problems& problems)
      : name_(name), folder_(folder), config_(config), problems_(problems) {}

  bool read(const std::string& text);

 private:
  using Node = YAML::Node;
  std::string where(const YAML::Mark& mark) const { return yaml_place(name_, mark); }
  void problem(const Node& at, const std::string& text) { problems_.add(where(at.Mark()), text); }
  void read_top(const Node& key, const Node& value);
  void read_section(const std::string& section, const Node& map);
  void read_setting(const Setting& setting, const Node& value);
  void read_storyboard(const Node& list);
  void read_story_line(const Node& entry);
  void unknown(const Node& key, const std::string& section);
  // Each key once, and a text.
  template <class Visit>
  void each(const Node& map, Visit&& visit);

  const std::string& name_;
  const std::filesystem::path& folder_;
  RunConfig& config_;
  Problems& problems_;
  bool has_prompt_ = false;
};

std::vector<std::string> section_names() {
  std::vector<std::string> out;
  for (const Setting& s : settings()) {
    if (!s.section.empty() && (out.empty() || out.back() != s.section)) out.push_back(s.section);
  }
  return out;
}

// What may stand at the top level (`section` empty) or in a section.
std::vector<std::string> known_keys(const std::string& section) {
  std::vector<std::string> out;
  if (section.empty()) {
    out = section_names();
    out.insert(out.end(), {"prompt", "storyboard"});
  }
  for (const Setting& s : settings()) {
    if (s.section == section) out.push_back(s.key);
  }
  return out;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

template <class Visit>
void ConfigReader::each(const Node& map, Visit&& visit) {
  std::set<std::string> seen;
  for (const auto& entry : map) {
    const Node& key = entry.first;
    if (!key.IsScalar()) {
      problem(key, "a key must be a plain name");
    } else if (!seen.insert(key.Scalar()).second) {
      problem(key, fmt::format("`{}` is given twice", key.Scalar()));
    } else {
      visit(key, entry.second);
    }
  }
}

bool ConfigReader::read(const std::string& text) {
  const std::optional<Node> root = load_plain_yaml(text, name_, problems_);
  if (!root) return false;
  each(*root, [&](const Node& key, const Node& value) { read_top(key, value); });
  return true;
}

void ConfigReader::read_top(const Node& key, const Node& value) {
  const std::string& name = key.Scalar();
  if (name == "prompt" || name == "storyboard") {
    if (std::exchange(has_prompt_, true)) problem(key, "give either `prompt` or `storyboard`");
    if (name == "storyboard")
      read_storyboard(value);
    else if (value.IsScalar())
      config_.storyboard = {{StoryTime{}, value.Scalar(), where(value.Mark())}};
    else
      problem(key, "expected a text after `prompt`");
  } else if (contains(section_names(), name)) {
    if (value.IsMap())
      read_section(name, value);
    else if (!value.IsNull())
      problem(key, fmt::format("expected settings below `{}`", name));
  } else if (const Setting* setting = find_setting(name); setting && setting->section.empty()) {
    read_setting(*setting, value);
  } else {
    unknown(key, "");
  }
}

void ConfigReader::read_section(const std::string& section, const Node& map) {
  each(map, [&](const Node& key, const Node& value) {
    const Setting* setting = find_setting(section + "." + key.Scalar());
    if (setting)
      read_setting(*setting, value);
    else
      unknown(key, section);
  });
}

void ConfigReader::read_setting(const Setting& setting, const Node& value) {
  if (!value.IsScalar()) {
    problem(value, fmt::format("expected one value for `{}`", setting.name()));
    return;
  }
  const std::string wrong = setting.set(config_, value.Scalar(), folder_);
  if (!wrong.empty()) problem(value, fmt::format("`{}`: {}", setting.name(), wrong));
}

void ConfigReader::read_storyboard(const Node& list) {
  config_.storyboard.clear();
  if (!list.IsSequence() || list.size() == 0) {
    problem(list, "expected a list of `{at: 6s, prompt: text}` in `storyboard`");
    return;
  }
  for (const auto& entry : list) read_story_line(entry);
}

void ConfigReader::read_story_line(const Node& entry) {
  StoryLine line;
  line.where = where(entry.Mark());
  bool has_time = false, has_prompt = false;
  if (entry.IsMap()) {
    each(entry, [&](const Node& key, const Node& value) {
      const bool is_time = key.Scalar() == "at";
      if (!is_time && key.Scalar() != "prompt") {
        problem(key, fmt::format("unknown key `{}` in `storyboard`; known are `at` and `prompt`",
                                 key.Scalar()));
        return;
      }
      const std::string text = value.IsScalar() ? value.Scalar() : "";
      (is_time ? has_time : has_prompt) = true;
      if (!is_time) {
        line.prompt = text;
      } else if (!(line.at = parse_story_time(text))) {
        problem(value, fmt::format("expected a time such as 6s or 96f, found `{}`", text));
      }
    });
  }
  if (!has_time || !has_prompt) problem(entry, "expected `{at: 6s, prompt: text}`");
  config_.storyboard.push_back(line);
}

void ConfigReader::unknown(const Node& key, const std::string& section) {
  const std::string place = section.empty() ? "" : fmt::format(" in `{}`", section);
  for (const Setting& s : settings()) {
    if (s.key == key.Scalar()) {
      const std::string home = s.section.empty() ? "the top level" : "`" + s.section + "`";
      problem(key, fmt::format("unknown key `{}`{}; it belongs to {}", s.key, place, home));
      return;
    }
  }
  problem(key, fmt::format("unknown key `{}`{}; the nearest known key is `{}`", key.Scalar(), place,
                           nearest_name(key.Scalar(), known_keys(section))));
}

}  // namespace

bool read_config_text(const std::string& text, const std::string& name,
                      const std::filesystem::path& folder, RunConfig& config, Problems& problems) {
  return ConfigReader(name, folder, config, problems).read(text);
}

bool read_config_file(const std::filesystem::path& path, RunConfig& config, Problems& problems) {
  return read_config_text(read_file(path, kLargestFile), path.string(), path.parent_path(), config,
                          problems);
}

}  // namespace longtake
