// CUDA calls that must succeed: LT_CUDA(cudaMemcpyAsync(...)) throws with expression, name and text
// of the error. After a kernel launch: LT_CUDA(cudaGetLastError()).
#pragma once

#include <cuda_runtime_api.h>

namespace longtake::cuda {

[[noreturn]] void call_failed(cudaError_t error, const char* expression, const char* file,
                              int line);

inline void check_call(cudaError_t error, const char* expression, const char* file, int line) {
  if (error != cudaSuccess) call_failed(error, expression, file, line);
}

}  // namespace longtake::cuda

#define LT_CUDA(call) ::longtake::cuda::check_call((call), #call, __FILE__, __LINE__)
