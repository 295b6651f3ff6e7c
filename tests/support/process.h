// Starts the real binary (LONGTAKE_BINARY) as a shell would, and catches what it says and leaves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace longtake::testing {

struct Outcome {
  int code = -1;   // exit code; -1: ended by a signal
  int signal = 0;  // that signal
  std::string out, err;
};

struct ProcessOptions {
  std::vector<std::string> environment{};  // "NAME=value", beside the test's own
  std::filesystem::path folder{};          // the working directory; empty: the test's
  std::filesystem::path out{};             // standard output goes here; empty: it is caught
  bool closed_out = false;                 // standard output is a pipe that nobody reads
  bool closed_err = false;                 // the same of standard error
  std::optional<uint64_t> file_bytes{};    // no file can grow beyond (RLIMIT_FSIZE)
};

// A process of the binary; it is killed when the object goes before it ended.
class Process {
 public:
  explicit Process(const std::vector<std::string>& args, const ProcessOptions& options = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Outcome wait();  // at most two minutes

 private:
  int id_ = -1;
  int out_ = -1, err_ = -1;  // ends of pipes, or -1
};

inline Outcome run(const std::vector<std::string>& args, const ProcessOptions& options = {}) {
  return Process(args, options).wait();
}

// Checks that `text` has `part` in it, and shows it where it has not.
void check_mentions(const std::string& text, const std::string& part);
// The process failed with `code` and one message that has all these parts; nothing was killed.
void check_failed(const Outcome& outcome, int code, const std::vector<std::string>& parts);

}  // namespace longtake::testing
