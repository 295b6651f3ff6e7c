// `resume RUN --num-frames N` and `generate` on a finished run with more frames.
#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"
#include "tests/support/decoded_video.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Words kQuiet{"--threads", "1", "--no-progress"};

// Blocks of 3 and then 2 latent frames, the last of the 9 frames' is one short.
Words generate(const fs::path& run, const Words& flags) {
  return Words{"generate",  (demo_configs() / "short.yaml").string(),
               "-o",        run.string(),
               "--block",   "2",
               "--overlap", "1",
               "--steps",   "3"} +
         kQuiet + flags;
}

Words resume(const fs::path& run, const Words& flags) {
  return Words{"resume", run.string()} + kQuiet + flags;
}

std::string hash_of(const fs::path& run) {
  return nlohmann::json::parse(contents(run / "report.json")).at("latents_sha256");
}

std::map<std::string, std::string> block_files(const fs::path& run) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::directory_iterator(run / "out"))
    out[entry.path().filename().string()] = contents(entry.path());
  return out;
}

Words threads(int ranks) {
  return {"--transport", "loopback", "--stages", std::to_string(ranks), "--branches", "1"};
}

}  // namespace

TEST_CASE("a finished run is made longer with the same bits on 1, 2 and 3 ranks") {
  const ScratchFolder scratch;
  const fs::path original = scratch / "original";
  REQUIRE(run(generate(original, {"--num-frames", "13"})).code == 0);
  const auto files = block_files(original);
  const std::string log = contents(original / "COMMIT");
  std::string hash, second;
  for (const int ranks : {1, 2, 3}) {
    const fs::path folder = scratch / std::to_string(ranks);
    fs::copy(original, folder, fs::copy_options::recursive);
    const Words flags = threads(ranks);

    const Outcome longer = run(resume(folder, Words{"--num-frames", "41"} + flags));

    CHECK_MESSAGE(longer.code == 0, longer.err);
    check_mentions(longer.err, "2 finished blocks stay, new ones from latent frame 4 to 11");
    CHECK(contents(folder / "COMMIT").starts_with(log));
    for (const auto& [name, bytes] : files) CHECK(block_files(folder).at(name) == bytes);
    check_good_blocks(folder, 6);
    if (hash.empty()) hash = hash_of(folder);
    CHECK(hash_of(folder) == hash);
    CHECK(decode_video(folder / "video.mp4").pictures.size() == 41);
    const Outcome info = run({"info", folder.string()});
    check_mentions(info.out, "made longer from block 2 at latent frame 4 to 41 video frames");

    // Again, this time by `generate`, and with a prompt after the old end.
    std::ofstream(scratch / "story.txt") << "[0s] a red circle moving right on a black background\n"
                                            "[41f] a blue square moving left\n";
    const Outcome twice = run(generate(
        folder,
        Words{"--num-frames", "61", "--prompt-file", (scratch / "story.txt").string()} + flags));
    CHECK_MESSAGE(twice.code == 0, twice.err);
    check_good_blocks(folder, 9);
    if (second.empty()) second = hash_of(folder);
    CHECK(hash_of(folder) == second);
  }
}

TEST_CASE("a longer run that was stopped goes on with the same bits, on another number of ranks") {
  const ScratchFolder scratch;
  const fs::path whole = scratch / "whole";
  REQUIRE(run(generate(whole, {"--num-frames", "13", "--checkpoint-every", "1"})).code == 0);
  fs::copy(whole, scratch / "stopped", fs::copy_options::recursive);
  REQUIRE(run(resume(whole, {"--num-frames", "77"})).code == 0);
  const fs::path folder = scratch / "stopped";

  // So short a time limit stops every process at its first chance.
  const Words limit{"--maxh", "1e-9"};
  int code = run(resume(folder, Words{"--num-frames", "77"} + limit + threads(2))).code, stops = 0;
  for (; code == 75 && stops < 40; ++stops)
    code = run(resume(folder, limit + threads(1 + stops % 3))).code;

  CHECK(stops >= 3);
  CHECK(code == 0);
  CHECK(hash_of(folder) == hash_of(whole));
  CHECK(contents(folder / "video.mp4") == contents(whole / "video.mp4"));
}

TEST_CASE("what cannot be made longer stays as it is") {
  const ScratchFolder scratch;
  const fs::path folder = scratch / "run";
  REQUIRE(run(generate(folder, {"--num-frames", "13"})).code == 0);
  const std::string log = contents(folder / "COMMIT");
  const auto video = contents(folder / "video.mp4");

  const Outcome none = run(resume(folder, {}));
  const Outcome shorter = run(resume(folder, {"--num-frames", "9"}));
  const Outcome same = run(resume(folder, {"--num-frames", "13"}));
  const Outcome steps = run(generate(folder, {"--num-frames", "41", "--steps", "4"}));

  check_failed(none, 2, {"is finished", "--num-frames with more than 13 frames"});
  check_failed(shorter, 73,
               {folder.string(), "`video.frames: 13` in the run, `video.frames: 9` now"});
  check_failed(same, 73, {"finished run of 13 frames; ask for more"});
  check_failed(steps, 73, {"`sampler.steps: 3` in the run, `sampler.steps: 4` now"});
  CHECK(contents(folder / "COMMIT") == log);
  CHECK(contents(folder / "video.mp4") == video);
  CHECK(fs::exists(folder / "report.json"));
}

}  // namespace longtake
