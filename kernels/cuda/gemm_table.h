// Which algorithm each matrix product takes: one table per process, which can be written down and
// read by other processes, so that all of them compute the same bits.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace longtake::cuda {

class GemmTable {
 public:
  static GemmTable& of_process();

  // The algorithm under `key`, in hexadecimal digits.
  std::optional<std::string> find(const std::string& key) const;
  // Keeps the one that is there already, and returns the one kept.
  std::string add(const std::string& key, const std::string& algorithm);
  void clear();

  // {"key": "algorithm", ...}, ordered by key: equal tables have equal texts.
  std::string text() const;
  // Adds what `text` holds, in place of what is there; fails with `bad_data` and the place of the
  // first wrong character, then nothing is added.
  void load(const std::string& text);

  // Changes when algorithms in use may have been replaced.
  uint64_t generation() const { return generation_; }
  void look_again() { ++generation_; }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> entries_;
  std::atomic<uint64_t> generation_{0};
};

}  // namespace longtake::cuda
