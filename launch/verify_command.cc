#include <fmt/core.h>

#include "kernels/base/error.h"
#include "launch/commands.h"
#include "launch/log.h"
#include "runtime/stream/verify_run.h"

namespace longtake {

int run_verify(const VerifyOptions& options) {
  const VerifyReport report = verify_run(options.run, options.full);
  for (const std::string& note : report.notes) log_info("note: {}", note);
  if (!report.problems.empty()) {
    std::string all;
    for (const std::string& problem : report.problems) all += "\n  " + problem;
    fail(ExitCode::bad_data, "{} is damaged:{}", options.run.string(), all);
  }
  fmt::print("{}: {} blocks, {} of {} latent frames, {} bytes: all as committed\n",
             options.run.string(), report.blocks, report.frames, report.frames_expected,
             report.bytes);
  if (options.full) fmt::print("latents_sha256 {}\n", report.latents_sha256);
  return 0;
}

}  // namespace longtake
