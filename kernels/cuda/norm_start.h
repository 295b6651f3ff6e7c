// Kernel launches of norm.cc; at least one row and one element each.
#pragma once

#include "kernels/cuda/norm_args.h"

struct CUstream_st;  // cudaStream_t

namespace longtake::cuda {

void start(const LayerNormArgs& a, CUstream_st* stream);
void start(const GatedLayerNormArgs& a, CUstream_st* stream);
void start(const RmsNormArgs& a, CUstream_st* stream);
void start(const ChannelNormArgs& a, CUstream_st* stream);

}  // namespace longtake::cuda
