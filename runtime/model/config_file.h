// Checked access to a JSON configuration file. Every failure names file, key, what was expected and
// what was found.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace longtake {

class ConfigFile {
 public:
  explicit ConfigFile(const std::filesystem::path& path);

  const std::string& where() const { return where_; }
  bool has(const std::string& key) const;  // there and not null
  const nlohmann::json& tree() const { return tree_; }

  // Without `absent` the key is required; null counts as absent.
  int64_t integer(const std::string& key, int64_t least, int64_t most,
                  std::optional<int64_t> absent = {}) const;
  double number(const std::string& key, double least, double most,
                std::optional<double> absent = {}) const;
  bool boolean(const std::string& key, std::optional<bool> absent = {}) const;
  std::string text(const std::string& key, std::optional<std::string> absent = {}) const;
  std::vector<int64_t> integers(const std::string& key, int64_t least, int64_t most) const;
  std::vector<float> floats(const std::string& key, double least, double most) const;
  std::vector<bool> booleans(const std::string& key) const;

  // Fails unless the key is absent or has this value: for settings that are implemented one way
  // only.
  void only(const std::string& key, const nlohmann::json& value) const;

  [[noreturn]] void reject(const std::string& key, const std::string& expected) const;

 private:
  const nlohmann::json* find(const std::string& key, bool required) const;
  const nlohmann::json& array(const std::string& key) const;

  std::string where_;
  nlohmann::json tree_;
};

}  // namespace longtake
