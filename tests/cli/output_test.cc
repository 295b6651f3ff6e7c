// Places that cannot be written, full disks, and run folders that are in use or hold something
// else: a committed block is never lost, and a folder without one does not stay.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"
#include "tests/support/safetensors_writer.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

// A file system of its own, where this process may mount one (root in a container, say).
class SmallDisk {
 public:
  SmallDisk(const fs::path& folder, const char* size, unsigned long flags = 0) : folder_(folder) {
    fs::create_directories(folder);
    mounted_ = ::mount("tmpfs", folder.c_str(), "tmpfs", flags,
                       (std::string("size=") + size).c_str()) == 0;
    if (!mounted_)
      MESSAGE("mounting is not allowed here: this part runs without a disk of its own");
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  explicit operator bool() const { return mounted_; }

 private:
  fs::path folder_;
  bool mounted_ = false;
};

// Twelve blocks of at most 18,444 bytes, a video of more than 50 kB that grows second by second.
const std::vector<std::string> kTwelveBlocks = {"--fps",   "4", "--num-frames", "93",
                                                "--block", "2", "--overlap",    "1"};

ProcessOptions limited_to(uint64_t file_bytes) {
  ProcessOptions options;
  options.file_bytes = file_bytes;
  return options;
}

int64_t blocks_in(const fs::path& run) {
  int64_t lines = 0;
  for (const char c : contents(run / "COMMIT")) lines += c == '\n';
  return lines;
}

void wait_for(const fs::path& path) {
  for (int i = 0; i < 2000 && !fs::exists(path); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(fs::exists(path));
}

}  // namespace

TEST_CASE("an output folder that cannot be made") {
  const DemoModel model;
  const fs::path file = model / "a file";
  write_bytes(file, "x");

  model.check_refused(73, {"cannot create folder", "a file", "Not a directory"},
                      {"-o", file / "run"});
  model.check_refused(73, {"cannot create folder " + file.string(), "a file of that name exists"},
                      {"-o", file});
  model.check_refused(73, {"/proc/longtake"}, {"-o", "/proc/longtake/run"});
  CHECK(contents(file) == "x");
}

TEST_CASE("a read-only file system") {
  const DemoModel model;
  const SmallDisk disk(model / "disk", "1m", MS_RDONLY);
  if (!disk) return;  // the case before this one needs no mount

  model.check_refused(73, {"cannot create folder", "Read-only file system"},
                      {"-o", model / "disk/run"});
}

TEST_CASE("a folder with other things in it is left alone") {
  const DemoModel model;
  write_bytes(model.run() / "thesis.txt", "mine");

  check_failed(model.generate(), 73,
               {"is not empty and is not a run of longtake: it holds thesis.txt"});

  CHECK(contents(model.run() / "thesis.txt") == "mine");
  CHECK(std::distance(fs::directory_iterator(model.run()), {}) == 1);
}

TEST_CASE("a video that cannot be made: nothing was committed, nothing stays") {
  const DemoModel model;
  fs::create_directory(model / "folder.mp4");
  fs::create_symlink("/dev/full", model / "full.mp4");

  model.check_refused(73, {"cannot create", "folder.mp4", "Is a directory"},
                      {"--video", model / "folder.mp4"});
  model.check_refused(74, {"cannot write", "full.mp4", "No space left on device"},
                      {"--video", model / "full.mp4"});
  model.check_refused(2, {"--video: expected a name that ends in .mp4, found `COMMIT`"},
                      {"--video", "COMMIT"});
}

TEST_CASE("bad weights do not cost the video that was there") {
  const DemoModel model;
  write_bytes(model / "mine.mp4", "my video");
  model.edit(kVaeWeights, [](WeightsFile& file) { file.header.erase("decoder.conv_out.bias"); });

  const Outcome outcome = model.generate({"--video", model / "mine.mp4"});

  CHECK(outcome.code == 65);
  CHECK(contents(model / "mine.mp4") == "my video");
}

TEST_CASE("committed blocks stay when their pictures cannot be written") {
  const DemoModel model;

  const Outcome outcome = model.generate(kTwelveBlocks, limited_to(20 * 1024));

  check_failed(outcome, 74, {"video.mp4", "File too large"});
  const int64_t kept = blocks_in(model.run());
  CHECK(kept >= 1);
  CHECK(kept < 12);
  check_good_blocks(model.run(), kept);
  CHECK_FALSE(fs::exists(model.run() / "video.mp4"));
  CHECK_MESSAGE(model.generate(kTwelveBlocks).code == 0, "the run cannot be continued");
  check_good_blocks(model.run(), 12);
}

TEST_CASE("the first block stays when writing its pictures fails") {
  const DemoModel model;
  // A video that nobody reads any further once it has begun.
  const fs::path video = model / "pipe.mp4";
  REQUIRE(::mkfifo(video.c_str(), 0600) == 0);
  const int reader = ::open(video.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(reader >= 0);
  std::vector<std::string> args = model.generate_args();
  args.insert(args.end(), {"--num-frames", "45", "--fps", "1", "--video", video});

  Process process(args);
  wait_for(model.run() / "RUN.json");
  pollfd begun{reader, POLLIN, 0};
  CHECK(::poll(&begun, 1, 60'000) == 1);
  ::close(reader);
  const Outcome outcome = process.wait();

  check_failed(outcome, 74, {"pipe.mp4", "Broken pipe"});
  CHECK(blocks_in(model.run()) == 1);
  check_good_blocks(model.run(), 1);
}

TEST_CASE("a file that cannot grow: no block, no folder") {
  const DemoModel model;

  // Room for RUN.json and the log, not for a block.
  check_failed(model.generate({"--latents-only"}, limited_to(3000)), 74, {"cannot", "run/"});

  CHECK_FALSE(fs::exists(model.run()));
}

TEST_CASE("a disk that is full from the start, and one that becomes full") {
  const DemoModel model;
  const SmallDisk tiny(model / "tiny", "12k");
  const SmallDisk small(model / "small", "128k");
  if (!tiny || !small) return;  // the cases before this one need no mount

  const Outcome at_once = model.generate({"-o", model / "tiny/run"});
  std::vector<std::string> flags = kTwelveBlocks;
  flags.insert(flags.end(), {"--latents-only", "-o", model / "small/run"});
  const Outcome later = model.generate(flags);

  CHECK(at_once.signal == 0);
  CHECK((at_once.code == 74 || at_once.code == 73));
  CHECK_FALSE(fs::exists(model / "tiny/run"));
  check_failed(later, 74, {"disk full: the next commit needs", "small/run has"});
  const int64_t kept = blocks_in(model / "small/run");
  CHECK(kept >= 1);
  CHECK(kept < 12);
  check_good_blocks(model / "small/run", kept);
}

TEST_CASE("two at once: the second is refused, the first is not disturbed") {
  const DemoModel model;
  std::vector<std::string> args = {"generate",
                                   "--model",
                                   model.root(),
                                   "-o",
                                   model.run(),
                                   "--size",
                                   "64x64",
                                   "--num-frames",
                                   "401",
                                   "--steps",
                                   "4",
                                   "--seed",
                                   "7",
                                   "-p",
                                   "a red circle",
                                   "--latents-only",
                                   "--no-progress"};
  Process first(args);
  wait_for(model.run() / "RUN.json");

  const Outcome second = run(args);
  check_failed(second, 73, {"is being written by another process (host ", "process "});
  const Outcome outcome = first.wait();

  CHECK_MESSAGE(outcome.code == 0, outcome.err);
  check_good_blocks(model.run(), 13);
}

TEST_CASE("a run of another configuration, and a finished one, stay as they are") {
  const DemoModel model;
  REQUIRE(model.generate().code == 0);
  const std::string log = contents(model.run() / "COMMIT");
  const std::string report = contents(model.run() / "report.json");

  const Outcome other = model.generate({"--seed", "8"});
  const Outcome again = model.generate();

  check_failed(other, 73,
               {"holds a run with another configuration", "sampler.seed: 7",
                "choose another output folder"});
  check_failed(again, 73, {"holds a finished run"});
  CHECK(contents(model.run() / "COMMIT") == log);
  CHECK(contents(model.run() / "report.json") == report);
  check_good_blocks(model.run(), 1);
}

}  // namespace longtake
