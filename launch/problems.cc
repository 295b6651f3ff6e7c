#include "launch/problems.h"

#include "kernels/base/error.h"

namespace longtake {

void Problems::report() const {
  if (texts_.empty()) return;
  if (texts_.size() == 1) fail(ExitCode::usage, "{}", texts_.front());
  std::string all = fmt::format("{} problems:", texts_.size());
  for (const std::string& text : texts_) all += "\n  " + text;
  fail(ExitCode::usage, "{}", all);
}

}  // namespace longtake
