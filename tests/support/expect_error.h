// Runs something that must fail and returns the error, so that a test checks its code and its
// words.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "kernels/base/error.h"

namespace longtake::testing {

template <class Action>
Error error_of(Action&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e;
  }
  FAIL("expected an error, found none");
  return Error(ExitCode::done, "");
}

inline bool mentions(const Error& error, const std::string& words) {
  const bool found = std::string(error.what()).find(words) != std::string::npos;
  if (!found) MESSAGE("`" << std::string(error.what()) << "` does not mention `" << words << "`");
  return found;
}

}  // namespace longtake::testing
