// Tensor maps of an attention call, made by the host, read by TMA.
#pragma once

#include <cuda.h>

#include "kernels/cuda/attention_params.h"

namespace longtake::cuda {

// Matrices [rows, heads * head_dim] in boxes of 128 rows x 64 columns, 128-byte swizzle.
struct HopperMaps {
  CUtensorMap q, k[kHopperSegments], v[kHopperSegments];
};

}  // namespace longtake::cuda
