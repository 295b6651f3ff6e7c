#include "tests/support/process.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "kernels/base/error.h"

namespace longtake::testing {

namespace {

constexpr auto kLongest = std::chrono::minutes(2);

using Pipe = std::array<int, 2>;  // to read from, to write to

Pipe make_pipe() {
  Pipe ends{};
  LT_CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0, "no pipe");
  return ends;
}

// Between fork and exec: only calls that are safe there.
[[noreturn]] void become(char* const* argv, const ProcessOptions& options, int out, int err) {
  if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(125);
  if (options.file_bytes) {
    const rlimit limit{*options.file_bytes, *options.file_bytes};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(125);
  }
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  for (const std::string& variable : options.environment)
    ::putenv(const_cast<char*>(variable.c_str()));
  ::execv(argv[0], argv);
  ::_exit(126);
}

}  // namespace

Process::Process(const std::vector<std::string>& args, const ProcessOptions& options) {
  const char* binary = std::getenv("LONGTAKE_BINARY");
  REQUIRE_MESSAGE(binary, "LONGTAKE_BINARY names the program; ctest sets it");
  std::vector<char*> argv{const_cast<char*>(binary)};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  const Pipe out = make_pipe(), err = make_pipe();
  const int file =
      options.out.empty() ? -1 : ::open(options.out.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  LT_CHECK(options.out.empty() || file >= 0, "cannot open {}", options.out.string());
  if (options.closed_out) ::close(out[0]);
  if (options.closed_err) ::close(err[0]);
  id_ = ::fork();
  LT_CHECK(id_ >= 0, "no process");
  if (id_ == 0) become(argv.data(), options, file >= 0 ? file : out[1], err[1]);
  ::close(out[1]), ::close(err[1]);
  if (file >= 0) ::close(file);
  if (!options.closed_out) out_ = out[0];
  if (!options.closed_err) err_ = err[0];
}

Process::~Process() {
  for (const int end : {out_, err_})
    if (end >= 0) ::close(end);
  if (id_ < 0) return;
  ::kill(id_, SIGKILL);
  ::waitpid(id_, nullptr, 0);
}

Outcome Process::wait() {
  Outcome outcome;
  std::array<pollfd, 2> ends{pollfd{out_, POLLIN, 0}, pollfd{err_, POLLIN, 0}};
  const auto end = std::chrono::steady_clock::now() + kLongest;
  while ((ends[0].fd >= 0 || ends[1].fd >= 0) && std::chrono::steady_clock::now() < end) {
    if (::poll(ends.data(), ends.size(), 1000) <= 0) continue;
    for (size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = ::read(ends[i].fd, buffer, sizeof buffer);
      if (n <= 0) ends[i].fd = -1;
      if (n > 0) (i == 0 ? outcome.out : outcome.err).append(buffer, static_cast<size_t>(n));
    }
  }
  int status = 0, found = 0;
  while ((found = ::waitpid(id_, &status, WNOHANG)) == 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  REQUIRE_MESSAGE(found == id_, "the process did not end in time");
  id_ = -1;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return outcome;
}

void check_mentions(const std::string& text, const std::string& part) {
  CHECK_MESSAGE(text.find(part) != std::string::npos,
                "expected `" << part << "` in `" << text << "`");
}

void check_failed(const Outcome& outcome, int code, const std::vector<std::string>& parts) {
  CHECK(outcome.signal == 0);
  CHECK_MESSAGE(outcome.code == code,
                "exit code " << outcome.code << ", expected " << code << ": " << outcome.err);
  for (const std::string& part : parts) check_mentions(outcome.err, part);
  const std::string prefix = "longtake: ";
  const size_t first = outcome.err.find(prefix);
  CHECK(first != std::string::npos);
  CHECK_MESSAGE(
      (first == std::string::npos || outcome.err.find("\n" + prefix, first) == std::string::npos),
      "more than one message: " << outcome.err);
}

}  // namespace longtake::testing
