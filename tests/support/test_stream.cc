#include "tests/support/test_stream.h"

#include <cstdlib>
#include <string_view>

#include "kernels/cuda/stream.h"

namespace longtake::testing {

bool tests_on_gpu() {
  static const bool gpu = [] {
    const char* device = std::getenv("LONGTAKE_DEVICE");
    return device && std::string_view(device) == "cuda";
  }();
  return gpu;
}

StreamRef test_stream(int threads) {
  if (!tests_on_gpu()) return host_stream(threads);
  static cuda::Stream gpu(0);
  return StreamRef(gpu, host_stream(threads).pool());
}

OwnedTensor on_device(OwnedTensor x) {
  return tests_on_gpu() ? to_device(x, test_stream()) : std::move(x);
}

RankStream::RankStream(int threads) : pool_(threads) {
  if (tests_on_gpu()) gpu_ = std::make_unique<cuda::Stream>(0);
}

RankStream::~RankStream() = default;

StreamRef RankStream::ref() {
  return gpu_ ? StreamRef(*gpu_, pool_) : StreamRef(pool_);
}

}  // namespace longtake::testing
