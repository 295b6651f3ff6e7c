#include <fmt/core.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/crash/parts.h"
#include "tests/crash/subject.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

// Killed under mpirun when a random number of blocks is there; went on on `to` ranks.
std::string kill_and_go_on(const Subject& subject, int from, int to, int blocks) {
  const fs::path run = subject.folder("run");
  fs::remove_all(run);
  Seen seen;
  {
    Job job(subject.generate(run, {from, false}), {}, subject.log());
    while (job.running() && !fs::exists(run / fmt::format("out/b{:08d}.h5", blocks)))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!job.running()) return "it ended before it was killed: " + describe(job.wait());
    job.kill_all();
    (void)job.wait();
  }
  const std::string problem = check_committed(run, seen);
  return problem.empty() ? subject.finish(run, {to, false}) : problem;
}

}  // namespace

int rank_counts(long pairs, unsigned seed) {
  static constexpr int kCounts[] = {1, 2, 3, 4, 6, 8};
  constexpr int kMost = 6;
  const Subject subject({"--latents-only", "--block", "2", "--overlap", "1", "--num-frames", "157",
                         "--steps", "5", "--checkpoint-every", "1"});
  std::mt19937 random(seed);
  long done = 0, findings = 0;
  // Of 9, each count is killed on and gone on with at least once: diagonals of the square.
  for (int shift = 0; shift < kMost; ++shift)
    for (int row = 0; row < kMost && done < pairs; ++row, ++done) {
      const int from = kCounts[row], to = kCounts[(row + shift + 1) % kMost];
      const int blocks = std::uniform_int_distribution<int>(2, 15)(random);
      const std::string problem = kill_and_go_on(subject, from, to, blocks);
      if (problem.empty()) continue;
      ++findings;
      fmt::print("killed on {} ranks, gone on with {}: {}\n", from, to, problem);
    }
  fmt::print("rank counts: {} of 36 pairs, {} findings\n", done, findings);
  return static_cast<int>(findings);
}

}  // namespace longtake::crash
