#include "kernels/cuda/check.h"
#include "kernels/cuda/solver_step_kernel.cuh"

namespace longtake::cuda {

void start(const SolverStepView& view, CUstream_st* stream) {
  constexpr unsigned kThreads = 256;
  const auto blocks = static_cast<unsigned>((view.n + kThreads - 1) / kThreads);
  solver_step_kernel<<<blocks, kThreads, 0, stream>>>(view);
  LT_CUDA(cudaGetLastError());
}

}  // namespace longtake::cuda
