// The run that is killed, spoilt and continued: a configuration, the hash that it must end with,
// and what must hold of its folder at every moment.
#pragma once

#include <filesystem>
#include <string>

#include "tests/crash/job.h"
#include "tests/support/scratch_folder.h"

namespace longtake::crash {

struct Layout {
  int ranks = 1;
  bool loopback = false;  // ranks as threads of one process
};

std::string name(const Layout& layout);

class Subject {
 public:
  // `flags` follow configs/demo/short.yaml. Makes the run once, undisturbed.
  explicit Subject(const Words& flags);

  // From now on the run is this one, made longer by these flags instead of the first ones: made
  // once more, undisturbed; `begin` gives what it begins with.
  void make_longer(const Words& flags);
  // A run that has not begun: none, or the finished one that is made longer.
  void begin(const std::filesystem::path& run) const;

  const std::string& expected() const { return expected_; }  // latents_sha256
  double seconds() const { return seconds_; }                // of the undisturbed run
  std::filesystem::path folder(const std::string& name) const { return scratch_ / name; }
  std::filesystem::path log() const { return scratch_ / "log"; }

  Words generate(const std::filesystem::path& run, const Layout& layout) const;
  Words resume(const std::filesystem::path& run, const Layout& layout) const;
  // Goes on with `run` until its end. Empty, or what is wrong: it fails, or the hash is another.
  std::string finish(const std::filesystem::path& run, const Layout& layout) const;
  std::string check_hash(const std::filesystem::path& run) const;

 private:
  void make_undisturbed();
  Words command(const Words& what, const Layout& layout) const;

  testing::ScratchFolder scratch_;
  Words flags_;
  std::string expected_;
  double seconds_ = 0;
};

// What was seen of a run's commits; they must never go.
struct Seen {
  std::string log;  // all lines of COMMIT that held
  int64_t blocks = 0, commits = 0;
};
// Everything committed is there and whole, and `seen` is the beginning of it; `seen` grows. Empty,
// or what is lost.
std::string check_committed(const std::filesystem::path& run, Seen& seen);

std::string file_text(const std::filesystem::path& path);
// The preloaded library with its variables, for Job.
Words shim(const std::filesystem::path& folder, const Words& variables);

}  // namespace longtake::crash
