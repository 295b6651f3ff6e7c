#include "launch/run_limits.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "kernels/base/error.h"

namespace longtake {

namespace {

std::atomic<int> stop_signal{0};
std::atomic<bool> stop_asked{false};

// What a commit and the last messages take beside the sweeps.
constexpr double kMargin_s = 1;

// One request may come several times: from Slurm itself, and passed on by srun or mpirun.
constexpr auto kSameRequest = std::chrono::seconds(1);

[[noreturn]] void watch(sigset_t signals) {
  std::chrono::steady_clock::time_point asked_to_end;
  while (true) {
    int number = 0;
    if (sigwait(&signals, &number) != 0) continue;
    const int before = stop_signal.load();
    const auto now = std::chrono::steady_clock::now();
    if (number == SIGUSR1) {
      if (before == 0) stop_signal.store(number);
    } else if (before == 0 || before == SIGUSR1) {
      asked_to_end = now;
      stop_signal.store(number);
    } else if (now - asked_to_end > kSameRequest) {
      _exit(128 + number);
    }
    stop_asked.store(true);
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

// A handler would do harm: matrix products of oneDNN without its change #4855 (2026) use the stack
// pointer for an address in the heap, and a handler's frame would be written there (its issue
// #4845).
void catch_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals, number);
  const int error = pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  LT_CHECK(error == 0, "cannot block signals: error {}", error);
  std::thread(watch, signals).detach();
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
