// A run is killed, or asked to stop, at random moments, and goes on.
#include <fmt/core.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "tests/crash/parts.h"
#include "tests/crash/subject.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

// Does it wait for requests to stop? Before that they end it like any program.
bool listens(pid_t rank) {
  std::ifstream file("/proc/" + std::to_string(rank) + "/status");
  const std::string key = "SigBlk:";
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key))
      return (std::stoull(line.substr(key.size()), nullptr, 16) >> (SIGUSR1 - 1) & 1) != 0;
  return false;
}

struct Disturber {
  bool asks = false;  // to stop, instead of killing
  std::mt19937 random;
  long left = 0, done = 0, stopped = 0, runs = 0, findings = 0;
  double longest_s = 0;

  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random); }

  // Half of the moments are anywhere in the run, the others soon after something was committed.
  void wait_for_the_moment(Job& job, const fs::path& run) {
    using namespace std::chrono;
    const auto start = steady_clock::now();
    const auto most = duration<double>(std::uniform_real_distribution<>(0, longest_s)(random));
    std::error_code error;
    const bool after_commit = below(2) == 0;
    const auto before = fs::file_size(run / "COMMIT", error);
    while (job.running() && steady_clock::now() - start < (after_commit ? most * 4 : most)) {
      const auto now = fs::file_size(run / "COMMIT", error);
      if (after_commit && !error && now != before && below(3) == 0) break;
      std::this_thread::sleep_for(microseconds(500));
    }
    std::this_thread::sleep_for(microseconds(below(3000)));
  }

  // One rank or all of them, once or again and again; false: the run is over.
  bool ask(Job& job, size_t expected) {
    std::vector<pid_t> ranks;
    const auto all_listen = [&] {
      ranks = job.ranks();
      return ranks.size() == expected && std::all_of(ranks.begin(), ranks.end(), listens);
    };
    while (job.running() && !all_listen())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!job.running()) return false;
    static constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1};
    const int number = kSignals[below(3)];
    if (below(2) == 0) ranks = {ranks[static_cast<size_t>(below(static_cast<int>(ranks.size())))]};
    // A second SIGTERM or SIGINT ends a run only a second after the first.
    for (int times = below(4) == 0 ? 100 : 1; times > 0; --times)
      for (const pid_t rank : ranks) ::kill(rank, number);
    return true;
  }

  // One process of the job or all of them.
  bool kill(Job& job) {
    if (!job.running()) return false;
    const auto ranks = job.ranks();
    if (!ranks.empty() && below(2) == 0)
      ::kill(ranks[static_cast<size_t>(below(static_cast<int>(ranks.size())))], SIGKILL);
    else
      job.kill_all();
    return true;
  }

  Layout layout() {
    static constexpr int kRanks[] = {1, 1, 2, 3, 4};
    return {kRanks[below(5)], below(2) == 0};
  }

  void one_run(const Subject& subject) {
    const fs::path run = subject.folder("run");
    fs::remove_all(run);
    Seen seen;
    ++runs;
    std::string story, problem;
    for (int n = 1 + below(6); n > 0 && left > 0 && problem.empty(); --n) {
      std::error_code error;
      if (fs::exists(run / "report.json", error)) break;  // the kill came too late
      const Layout on = layout();
      const bool by_name = seen.blocks > 0 && below(2) == 0;
      Job job(by_name ? subject.resume(run, on) : subject.generate(run, on), {}, subject.log());
      wait_for_the_moment(job, run);
      const auto processes = static_cast<size_t>(on.loopback ? 1 : on.ranks);
      const bool disturbed = asks ? ask(job, processes) : kill(job);
      const Ended ended = job.wait();
      if (!disturbed) {
        if (ended.code != 0) problem = "not disturbed, but " + describe(ended);
        break;
      }
      // Code 0: the request came when nothing was left to stop.
      if (ended.code == static_cast<int>(ExitCode::stopped))
        ++stopped;
      else if (!ended.in_time || (asks && ended.code != 0))
        problem = describe(ended);
      ++done, --left;
      if (problem.empty()) problem = check_committed(run, seen);
      story += fmt::format("{} on {} with {} blocks; ", asks ? "stopped" : "killed", name(on),
                           seen.blocks);
    }
    const Layout on = layout();
    std::error_code error;
    if (problem.empty() && !fs::exists(run / "report.json", error))
      problem = subject.finish(run, on);
    else if (problem.empty())
      problem = subject.check_hash(run);
    if (problem.empty()) return;
    ++findings;
    fmt::print("{}then on {}: {}\n", story, name(on), problem);
  }
};

// Runs of which every fifth has pictures.
Disturber disturb(Disturber disturber, Words flags) {
  for (const char* word :
       {"--block", "2", "--overlap", "1", "--num-frames", "157", "--checkpoint-every", "1"})
    flags.push_back(word);
  const Subject pictures(flags);
  flags.push_back("--latents-only");
  const Subject plain(flags);
  while (disturber.left > 0) {
    const Subject& subject = disturber.below(5) == 0 ? pictures : plain;
    disturber.longest_s = subject.seconds() * 1.2;
    disturber.one_run(subject);
  }
  return disturber;
}

}  // namespace

int kill_random(long kills, unsigned seed) {
  const Disturber all = disturb({false, std::mt19937(seed), kills}, {"--steps", "4"});
  fmt::print("kill -9 at random moments: {} kills in {} runs, {} findings\n", all.done, all.runs,
             all.findings);
  return static_cast<int>(all.findings);
}

// With more blocks under way than a channel holds messages.
int stop_random(long stops, unsigned seed) {
  Disturber all = disturb({true, std::mt19937(seed), stops}, {"--steps", "12"});
  if (all.stopped * 2 < all.done) {
    ++all.findings;
    fmt::print("of {} requests only {} stopped a run\n", all.done, all.stopped);
  }
  fmt::print("requests to stop at random moments: {} in {} runs, {} stopped, {} findings\n",
             all.done, all.runs, all.stopped, all.findings);
  return static_cast<int>(all.findings);
}

}  // namespace longtake::crash
