#include <fmt/core.h>
#include <signal.h>

#include <chrono>
#include <optional>
#include <random>
#include <thread>

#include "tests/crash/parts.h"
#include "tests/crash/subject.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

struct Killer {
  std::mt19937 random;
  long left = 0, kills = 0, runs = 0, findings = 0;
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
      if (!kill(job)) {
        const Ended ended = job.wait();
        if (ended.code != 0) problem = "not killed, but " + describe(ended);
        break;
      }
      const Ended ended = job.wait();
      if (!ended.in_time) problem = describe(ended);
      ++kills, --left;
      if (problem.empty()) problem = check_committed(run, seen);
      story += fmt::format("killed on {} with {} blocks; ", name(on), seen.blocks);
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

}  // namespace

int kill_random(long kills, unsigned seed) {
  const Words quick{"--block", "2", "--overlap",          "1", "--num-frames", "157",
                    "--steps", "4", "--checkpoint-every", "1"};
  Words latents = quick;
  latents.push_back("--latents-only");
  const Subject plain(latents), pictures(quick);
  Killer killer;
  killer.random.seed(seed);
  killer.left = kills;
  while (killer.left > 0) {
    const bool with_video = killer.below(5) == 0;
    const Subject& subject = with_video ? pictures : plain;
    killer.longest_s = subject.seconds() * 1.2;
    killer.one_run(subject);
  }
  fmt::print("kill -9 at random moments: {} kills in {} runs, {} findings\n", killer.kills,
             killer.runs, killer.findings);
  return static_cast<int>(killer.findings);
}

}  // namespace longtake::crash
