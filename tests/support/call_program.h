// The program as a user calls it.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace longtake::testing {

struct Outcome {
  int code = -1;
  std::string text;  // both streams
};

inline Outcome call(const std::string& arguments, const std::string& environment = "") {
  const char* binary = std::getenv("LONGTAKE_BINARY");
  REQUIRE_MESSAGE(binary, "LONGTAKE_BINARY names the program; ctest sets it");
  Outcome out;
  std::FILE* pipe = popen((environment + " '" + binary + "' " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) out.text.append(buffer, n);
  const int status = pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return out;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace longtake::testing
