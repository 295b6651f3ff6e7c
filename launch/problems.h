// What is wrong with a configuration: all of it is collected and reported at once.
#pragma once

#include <string>
#include <vector>

namespace longtake {

class Problems {
 public:
  // `where`: "run.yaml:12" or "--steps".
  void add(const std::string& where, const std::string& text) {
    texts_.push_back(where.empty() ? text : where + ": " + text);
  }
  bool empty() const { return texts_.empty(); }
  const std::vector<std::string>& texts() const { return texts_; }
  void report() const;  // fails with ExitCode::usage unless empty

 private:
  std::vector<std::string> texts_;
};

}  // namespace longtake
