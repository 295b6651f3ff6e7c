// CUDA backend of kernels/side_copies.h: a stream and events of their own, pinned host memory.
#pragma once

#include <memory>

#include "kernels/cuda/stream.h"
#include "kernels/side_copies.h"

namespace longtake::cuda {

// Beside `work`, which outlives it.
std::unique_ptr<SideCopies> make_side_copies(Stream& work);

}  // namespace longtake::cuda
