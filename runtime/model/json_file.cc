#include "runtime/model/json_file.h"

#include <fstream>
#include <iterator>
#include <set>
#include <string_view>
#include <vector>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// Collects the keys of every open object; the tree itself would keep the last of two equal ones.
class DuplicateKeys {
 public:
  bool operator()(int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) open_.emplace_back();
    if (event == Event::object_end) open_.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open_.back().insert(key).second && doubled_.empty()) doubled_ = key;
    }
    return true;
  }
  const std::string& doubled() const { return doubled_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::string doubled_;
};

}  // namespace

nlohmann::json read_json_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path))
    fail(ExitCode::missing_input, "{}: cannot open", path.string());
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) fail(ExitCode::io, "{}: cannot read", path.string());
  DuplicateKeys keys;
  nlohmann::json tree;
  try {
    tree = nlohmann::json::parse(text, std::ref(keys));
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "{}: not JSON: {}", path.string(),
         std::string_view(error.what()).substr(0, 200));
  }
  if (!tree.is_object())
    fail(ExitCode::bad_data, "{}: expected a JSON object, found {}", path.string(),
         tree.type_name());
  if (!keys.doubled().empty())
    fail(ExitCode::bad_data, "{}: the key \"{}\" is doubled", path.string(), keys.doubled());
  return tree;
}

}  // namespace longtake
