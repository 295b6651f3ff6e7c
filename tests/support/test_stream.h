// A stream for tests: the CPU's, one pool for the whole process, or with LONGTAKE_DEVICE=cuda that
// of the first GPU.
#pragma once

#include "kernels/base/stream.h"
#include "kernels/copy.h"

namespace longtake::testing {

inline StreamRef host_stream(int threads = 2) {
  static ThreadPool one(1), two(2), three(3);
  return StreamRef(threads == 1 ? one : threads == 2 ? two : three);
}

bool tests_on_gpu();
StreamRef test_stream(int threads = 2);
// Moves a tensor to the test's device.
OwnedTensor on_device(OwnedTensor x);

// A stream of its own for each rank that is a thread.
class RankStream {
 public:
  explicit RankStream(int threads);
  ~RankStream();
  StreamRef ref();

 private:
  ThreadPool pool_;
  std::unique_ptr<cuda::Stream> gpu_;
};

}  // namespace longtake::testing
