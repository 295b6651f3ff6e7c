#include "runtime/model/config_file.h"

#include "kernels/base/error.h"
#include "runtime/model/json_file.h"

namespace longtake {

using nlohmann::json;

namespace {

bool is_integer_within(const json& value, int64_t least, int64_t most) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return false;
  return value.is_number_integer() && least <= value.get<int64_t>() && value.get<int64_t>() <= most;
}

bool is_number_within(const json& value, double least, double most) {
  return value.is_number() && least <= value.get<double>() && value.get<double>() <= most;
}

}  // namespace

ConfigFile::ConfigFile(const std::filesystem::path& path)
    : where_(path.string()), tree_(read_json_file(path)) {}

const json* ConfigFile::find(const std::string& key, bool required) const {
  const auto found = tree_.find(key);
  if (found != tree_.end() && !found->is_null()) return &*found;
  if (required) fail(ExitCode::bad_data, "{}: the key \"{}\" is missing", where_, key);
  return nullptr;
}

bool ConfigFile::has(const std::string& key) const {
  return find(key, false) != nullptr;
}

void ConfigFile::reject(const std::string& key, const std::string& expected) const {
  const json* value = find(key, false);
  fail(ExitCode::bad_data, "{}: expected {} for \"{}\", found {}", where_, expected, key,
       value ? value->dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 200)
             : "nothing");
}

int64_t ConfigFile::integer(const std::string& key, int64_t least, int64_t most,
                            std::optional<int64_t> absent) const {
  const json* value = find(key, !absent);
  if (!value) return *absent;
  if (!is_integer_within(*value, least, most))
    reject(key, fmt::format("a whole number from {} to {}", least, most));
  return value->get<int64_t>();
}

double ConfigFile::number(const std::string& key, double least, double most,
                          std::optional<double> absent) const {
  const json* value = find(key, !absent);
  if (!value) return *absent;
  if (!is_number_within(*value, least, most))
    reject(key, fmt::format("a number from {} to {}", least, most));
  return value->get<double>();
}

bool ConfigFile::boolean(const std::string& key, std::optional<bool> absent) const {
  const json* value = find(key, !absent);
  if (!value) return *absent;
  if (!value->is_boolean()) reject(key, "true or false");
  return value->get<bool>();
}

std::string ConfigFile::text(const std::string& key, std::optional<std::string> absent) const {
  const json* value = find(key, !absent);
  if (!value) return *absent;
  if (!value->is_string()) reject(key, "a text");
  return value->get<std::string>();
}

const json& ConfigFile::array(const std::string& key) const {
  const json* value = find(key, true);
  if (!value->is_array()) reject(key, "a list");
  return *value;
}

std::vector<int64_t> ConfigFile::integers(const std::string& key, int64_t least,
                                          int64_t most) const {
  std::vector<int64_t> out;
  for (const json& value : array(key)) {
    if (!is_integer_within(value, least, most))
      reject(key, fmt::format("whole numbers from {} to {}", least, most));
    out.push_back(value.get<int64_t>());
  }
  return out;
}

std::vector<float> ConfigFile::floats(const std::string& key, double least, double most) const {
  std::vector<float> out;
  for (const json& value : array(key)) {
    if (!is_number_within(value, least, most))
      reject(key, fmt::format("numbers from {} to {}", least, most));
    out.push_back(value.get<float>());
  }
  return out;
}

std::vector<bool> ConfigFile::booleans(const std::string& key) const {
  std::vector<bool> out;
  for (const json& value : array(key)) {
    if (!value.is_boolean()) reject(key, "true and false");
    out.push_back(value.get<bool>());
  }
  return out;
}

void ConfigFile::only(const std::string& key, const json& value) const {
  const json* found = find(key, false);
  if (found && *found != value) reject(key, value.dump());
}

}  // namespace longtake
