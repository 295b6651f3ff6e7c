#include <fmt/core.h>
#include <signal.h>

#include "kernels/base/error.h"
#include "tests/crash/forty_blocks.h"
#include "tests/crash/parts.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

// Empty, or what is wrong.
std::string kill_at(const Subject& subject, Seen seen, long at, const char* moment) {
  const fs::path run = subject.folder("run");
  const ShimmedRun killed(subject, run, {2, true}, {fmt::format("CRASH_KILL={}:{}", at, moment)});
  const bool reached = killed.ended().signal == SIGKILL;
  // The number of calls differs a little from run to run: the last ones may not be reached.
  if (!reached && killed.ended().code != 0) return describe(killed.ended());
  const int64_t before = seen.commits;
  const std::string problem = check_committed(run, seen);
  if (!problem.empty()) return problem;
  const int64_t found = seen.commits - before;
  if (found < killed.commits_before(at))
    return fmt::format("{} commits were reported, {} are there", killed.commits_before(at), found);
  return reached ? subject.finish(run, {1 + static_cast<int>(at % 3), true}) : "";
}

int kill_calls_of(const Subject& subject, const Calls& which, const char* what) {
  const long every = which.every;
  Seen begun;  // what the run begins with, of which nothing may go
  subject.begin(subject.folder("run"));
  const std::string bad = check_committed(subject.folder("run"), begun);
  LT_CHECK(bad.empty(), "the run that is made longer: {}", bad);
  const auto calls = static_cast<long>(all_calls(subject, subject.folder("run"), {2, true}).size());
  static constexpr const char* kMoments[] = {"before", "half", "after"};
  long points = 0, findings = 0;
  for (long at = 1; at <= calls; at += every) {
    if (!which.mine(at / every)) continue;
    // At every call all three moments; else they take turns.
    for (long m = 0; m < (every == 1 ? 3 : 1); ++m) {
      const char* moment = kMoments[(at / every + m) % 3];
      const std::string problem = kill_at(subject, begun, at, moment);
      ++points;
      if (problem.empty()) continue;
      ++findings;
      fmt::print("killed {} call {}: {}\n", moment, at, problem);
    }
  }
  fmt::print("kill -9 at file calls{}: {} points, every {}. of {} calls{}, {} findings\n", what,
             points, every, calls, share_text(which), findings);
  return static_cast<int>(findings);
}

}  // namespace

int kill_calls(const Calls& calls) {
  return kill_calls_of(Subject(forty_blocks()), calls, "");
}

int kill_longer(const Calls& calls) {
  Subject subject(five_blocks());
  subject.make_longer(forty_blocks());
  return kill_calls_of(subject, calls, " of a run that is made longer");
}

}  // namespace longtake::crash
