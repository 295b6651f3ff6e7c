// A stream for tests: two threads, one pool for the whole process.
#pragma once

#include "kernels/base/stream.h"

namespace longtake::testing {

inline StreamRef test_stream(int threads = 2) {
  static ThreadPool one(1), two(2), three(3);
  return StreamRef(threads == 1 ? one : threads == 2 ? two : three);
}

}  // namespace longtake::testing
