// When a run stops before its end: signals and time limits.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>

namespace longtake {

// SIGTERM, SIGINT and SIGUSR1 ask the run to stop at its next safe point; a second SIGTERM or
// SIGINT, more than a second after the first, ends the process at once with 128 + its number. A
// thread takes them; the calling thread and those it starts later are never interrupted.
void catch_stop_signals();

// Has one of them come?
const std::atomic<bool>& stop_requested();

class RunLimits {
 public:
  // maxh: hours since `start`, 0: no limit. job_end: when the batch system ends the job.
  RunLimits(std::chrono::steady_clock::time_point start, double maxh,
            std::optional<std::chrono::system_clock::time_point> job_end);

  // Why to stop now, given the seconds that pass until the run would have stopped at the next
  // occasion; empty: go on. From any thread.
  std::string reason(double ahead_s) const;

 private:
  std::chrono::steady_clock::time_point start_;
  double limit_s_;
  std::optional<std::chrono::system_clock::time_point> job_end_;
};

}  // namespace longtake
