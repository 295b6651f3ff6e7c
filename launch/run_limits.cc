#include "launch/run_limits.h"

#include <fmt/core.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "kernels/base/error.h"

namespace longtake {

namespace {

std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler sets it");

std::atomic<bool> stop_asked{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

// What a commit and the last messages take beside the sweeps.
constexpr double kMargin_s = 1;

// One request may come several times: from Slurm itself, and passed on by srun or mpirun.
constexpr int64_t kSameRequest_ns = 1'000'000'000;
std::atomic<int64_t> stop_time_ns{0};
static_assert(std::atomic<int64_t>::is_always_lock_free, "a signal handler sets it");

extern "C" void on_stop_signal(int number) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t now_ns = now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
  const int before = stop_signal.load();
  stop_asked.store(true);
  if (number == SIGUSR1) {
    if (before == 0) stop_signal.store(number);
  } else if (before == 0 || before == SIGUSR1) {
    stop_time_ns.store(now_ns);
    stop_signal.store(number);
  } else if (now_ns - stop_time_ns.load() > kSameRequest_ns) {
    _exit(128 + number);
  }
}

const char* name_of(int number) {
  switch (number) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "SIGUSR1";
  }
}

}  // namespace

const std::atomic<bool>& stop_requested() {
  return stop_asked;
}

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGTERM, SIGINT, SIGUSR1})
    LT_CHECK(::sigaction(number, &action, nullptr) == 0, "cannot catch signal {}", number);
}

RunLimits::RunLimits(std::chrono::steady_clock::time_point start, double maxh,
                     std::optional<std::chrono::system_clock::time_point> job_end)
    : start_(start), limit_s_(maxh * 3600), job_end_(job_end) {}

std::string RunLimits::reason(double ahead_s) const {
  if (const int number = stop_signal.load(); number != 0) return name_of(number);
  const double ahead = ahead_s + kMargin_s;
  const std::chrono::duration<double> run = std::chrono::steady_clock::now() - start_;
  if (limit_s_ > 0 && run.count() + ahead > limit_s_) return "--maxh";
  if (!job_end_) return "";
  const std::chrono::duration<double> left = *job_end_ - std::chrono::system_clock::now();
  return left.count() < ahead ? "end of the batch job" : "";
}

}  // namespace longtake
