// Starts a kernel in a stream. An error of the launch itself is returned to the .cc that asked.
#pragma once

#include <cuda_runtime_api.h>

namespace longtake::cuda {

struct StreamLaunch {
  cudaStream_t stream;

  template <class... Params, class... Args>
  void operator()(void (*kernel)(Params...), unsigned blocks, int threads, Args... args) const {
    kernel<<<blocks, static_cast<unsigned>(threads), 0, stream>>>(args...);
  }
};

}  // namespace longtake::cuda
