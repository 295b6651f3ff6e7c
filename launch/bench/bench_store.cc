// Commits of blocks of latents as a run does them: write, hash, fsync, rename, one line in the log,
// fdatasync, and the view. In --folder, by default in the place for temporary files, which may be
// memory.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"
#include "launch/bench/random_weights.h"
#include "launch/version.h"
#include "runtime/stream/latent_store.h"

namespace longtake {

namespace {

constexpr int64_t kMegabyte = int64_t{1} << 20;
constexpr int64_t kBlocks[] = {1, 8, 64};  // MiB
constexpr int64_t kMostWritten = 512;      // MiB, unless --repeat asks for more
constexpr int64_t kCommitsPerRepeat = 20;
constexpr int64_t kChannels = 16, kSide = 64;  // a frame of 256 KiB

// The smallest of the sorted values that this share of them does not exceed.
double percentile(const std::vector<double>& sorted, double share) {
  const auto n = static_cast<double>(sorted.size());
  return sorted[static_cast<size_t>(std::ceil(share * n)) - 1];
}

RunIdentity identity_of(int64_t frames) {
  RunIdentity id;
  id.version = version();
  id.model = "bench store";
  id.prompts = {{0, ""}};
  id.video_frames = 4 * (frames - 1) + 1;
  id.frames = frames;
  id.channels = kChannels;
  id.height = id.width = kSide;
  return id;
}

std::vector<double> commit_seconds(const std::filesystem::path& run, int64_t frames,
                                   int64_t commits) {
  LatentStore store(run, identity_of(frames * commits));
  const OwnedTensor block = normal_tensor(DType::f32, {frames, kChannels, kSide, kSide}, 1);
  std::vector<double> seconds;
  for (int64_t i = 0; i < commits; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    store.append(block);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  store.close();
  return seconds;
}

}  // namespace

void bench_store(const BenchSetup& setup) {
  BenchReport report("store", setup);
  for (const int64_t size : kBlocks) {
    const TemporaryFolder folder(setup.folder);
    const int64_t commits =
        std::clamp<int64_t>(kMostWritten / size, setup.repeat, kCommitsPerRepeat * setup.repeat);
    const int64_t frames = size * kMegabyte / (kChannels * kSide * kSide * 4);
    std::vector<double> seconds = commit_seconds(folder.path() / "run", frames, commits);
    std::sort(seconds.begin(), seconds.end());
    BenchRow row;
    row.time = {seconds.front(), percentile(seconds, 0.5), seconds.back(), 0, 0};
    row.labels = {{"MiB", size},
                  {"commits", commits},
                  {"p50 ms", 1e3 * row.time.median_s},
                  {"p99 ms", 1e3 * percentile(seconds, 0.99)}};
    row.rate = static_cast<double>(size * kMegabyte) * 1e-6 / row.time.median_s;
    row.unit = "MB/s";
    report.add(std::move(row));
  }
  report.close();
}

}  // namespace longtake
