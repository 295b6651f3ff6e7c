#include <cstdio>

#include "kernels/base/error.h"
#include "launch/commands.h"
#include "launch/model_info.h"
#include "launch/run_info.h"

namespace longtake {

int run_info(const InfoOptions& options) {
  std::error_code error;
  if (!std::filesystem::exists(options.path, error)) {
    fail(ExitCode::missing_input, "{} does not exist", options.path.string());
  }
  const bool is_run = std::filesystem::exists(options.path / "RUN.json", error);
  const std::string text = is_run ? describe_run(options.path) : describe_model(options.path);
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace longtake
