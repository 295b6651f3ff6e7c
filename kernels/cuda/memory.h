// CUDA backend of kernels/copy.h.
#pragma once

#include "kernels/copy.h"
#include "kernels/cuda/stream.h"

namespace longtake {

struct MemoryRows {
  size_t count = 0, bytes = 0, from_stride = 0, to_stride = 0;  // of a row, in bytes
};

namespace cuda {

// Returns when it is done if one side is host memory.
void copy(ConstTensor from, Tensor to, const MemoryRows& rows, Stream& stream);
void fill_zero(Tensor x, Stream& stream);
void upload(Tensor to, const FillPiece& fill, Stream& stream);

}  // namespace cuda
}  // namespace longtake
