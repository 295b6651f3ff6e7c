// Kernel launches of elementwise.cc; at least one element each.
#pragma once

#include "kernels/cuda/elementwise_args.h"

struct CUstream_st;  // cudaStream_t

namespace longtake::cuda {

void start(const ConvertArgs& a, CUstream_st* stream);
void start(const SiluArgs& a, CUstream_st* stream);
void start(const GatedGeluArgs& a, CUstream_st* stream);
void start(const AddRowsArgs& a, CUstream_st* stream);
void start(const LinearCombinationArgs& a, CUstream_st* stream);
void start(const AddGatedArgs& a, CUstream_st* stream);
void start(const BiasActivationArgs& a, CUstream_st* stream);
void start(const NotFiniteArgs& a, CUstream_st* stream);
void start(const RelativeBiasArgs& a, CUstream_st* stream);
void start_patchify(const PatchArgs& a, CUstream_st* stream);
void start_unpatchify(const PatchArgs& a, CUstream_st* stream);

}  // namespace longtake::cuda
