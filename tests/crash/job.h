// A run of the binary as the tests of this folder start, kill and await it: alone or under mpirun,
// with all of its processes found and ended.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace longtake::crash {

using Words = std::vector<std::string>;

struct Ended {
  int code = -1;  // exit code; -1: by a signal
  int signal = 0;
  bool in_time = true;  // false: it hung and was killed
  std::string text;     // what it said on both streams
};

std::string describe(const Ended& ended);

class Job {
 public:
  // `variables`: "NAME=value", beside the test's own. What it says goes to `log`.
  Job(const Words& command, const Words& variables, const std::filesystem::path& log);
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  bool running();
  std::vector<pid_t> ranks() const;  // its processes that are longtake
  void kill_all();                   // SIGKILL: mpirun and all ranks
  Ended wait(double seconds = 120);

 private:
  std::vector<pid_t> processes() const;
  void reap();
  std::filesystem::path session_folder() const { return log_.string() + ".mpi"; }

  pid_t id_ = -1;
  int status_ = 0;
  bool ended_ = false;
  std::filesystem::path log_;
};

}  // namespace longtake::crash
