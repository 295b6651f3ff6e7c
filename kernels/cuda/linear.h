// CUDA backend of kernels/linear.h: the weight as it is stored, [out, in] in the compute dtype.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/linear.h"

namespace longtake::cuda {

// weight and bias (may be empty) on the host or on the stream's GPU, f32, bf16 or f16.
std::unique_ptr<Linear::Packed> pack_linear(ConstTensor weight, ConstTensor bias, DType compute,
                                            StreamRef stream);
void linear(const LinearArgs& args, const Linear& weight, StreamRef stream);

}  // namespace longtake::cuda
