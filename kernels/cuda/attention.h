// CUDA backend of kernels/attention.h.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

void attention(const AttentionArgs& args, Stream& stream);

}  // namespace longtake::cuda
