#include <fmt/core.h>
#include <signal.h>

#include "tests/crash/forty_blocks.h"
#include "tests/crash/parts.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

// Empty, or what is wrong.
std::string kill_at(const Subject& subject, long at, const char* moment) {
  const fs::path run = subject.folder("run");
  const ShimmedRun killed(subject, run, {2, true}, {fmt::format("CRASH_KILL={}:{}", at, moment)});
  const bool reached = killed.ended().signal == SIGKILL;
  // The number of calls differs a little from run to run: the last ones may not be reached.
  if (!reached && killed.ended().code != 0) return describe(killed.ended());
  Seen seen;
  const std::string problem = check_committed(run, seen);
  if (!problem.empty()) return problem;
  if (seen.commits < killed.commits_before(at))
    return fmt::format("{} commits were reported, {} are there", killed.commits_before(at),
                       seen.commits);
  return reached ? subject.finish(run, {1 + static_cast<int>(at % 3), true}) : "";
}

}  // namespace

int kill_calls(long every) {
  const Subject subject(forty_blocks());
  const auto calls = static_cast<long>(all_calls(subject, subject.folder("run"), {2, true}).size());
  static constexpr const char* kMoments[] = {"before", "half", "after"};
  long points = 0, findings = 0;
  for (long at = 1; at <= calls; at += every) {
    // At every call all three moments; else they take turns.
    for (long m = 0; m < (every == 1 ? 3 : 1); ++m) {
      const char* moment = kMoments[(at / every + m) % 3];
      const std::string problem = kill_at(subject, at, moment);
      ++points;
      if (problem.empty()) continue;
      ++findings;
      fmt::print("killed {} call {}: {}\n", moment, at, problem);
    }
  }
  fmt::print("kill -9 at file calls: {} points, every {}. of {} calls, {} findings\n", points,
             every, calls, findings);
  return static_cast<int>(findings);
}

}  // namespace longtake::crash
