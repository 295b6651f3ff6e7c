// The GPU that a test runs on.
#pragma once

#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/copy.h"
#include "kernels/cuda/stream.h"

namespace longtake::testing {

class Gpu {
 public:
  StreamRef stream() { return StreamRef(stream_, pool_); }
  cuda::Stream& queue() { return stream_; }
  OwnedTensor up(ConstTensor host) { return to_device(host, stream()); }
  OwnedTensor down(ConstTensor device) { return to_host(device, stream()); }

 private:
  ThreadPool pool_{2};
  cuda::Stream stream_{0};
};

}  // namespace longtake::testing
