// The one exception type. A message says what was expected, what was found and where; the exit code
// says what kind of failure it is (README, "Exit codes").
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace longtake {

enum class ExitCode : int {
  done = 0,
  error = 1,
  usage = 2,           // bad usage or configuration
  bad_data = 65,       // a file that is there but cannot be right
  missing_input = 66,  // a file that is not there or cannot be read
  cannot_create = 73,
  io = 74,
  stopped = 75,  // stopped early with a commit written: run again to continue
  watchdog = 86,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

[[noreturn]] void fail_formatted(ExitCode code, fmt::string_view format, fmt::format_args args);

template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  fail_formatted(code, format, fmt::make_format_args(args...));
}

[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               fmt::string_view format, fmt::format_args args);

template <class... Args>
[[noreturn]] void check_failed_at(const char* expression, const char* file, int line,
                                  fmt::format_string<Args...> format, Args&&... args) {
  check_failed(expression, file, line, format, fmt::make_format_args(args...));
}

}  // namespace longtake

// A broken contract inside the program: LT_CHECK(a == b, "expected {} rows, found {}", a, b).
#define LT_CHECK(condition, ...)                                                                \
  do {                                                                                          \
    if (!(condition)) ::longtake::check_failed_at(#condition, __FILE__, __LINE__, __VA_ARGS__); \
  } while (false)
