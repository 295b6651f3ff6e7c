// The matrix product of kernels/cuda/gemm.h by a kernel of our own, one order of sums for all.
#pragma once

#include "kernels/cuda/gemm.h"

namespace longtake::cuda {

void plain_gemm(const GemmArgs& args, CUstream_st* stream);

}  // namespace longtake::cuda
