// Reproducible random tensors for tests.
#pragma once

#include <cstdint>

#include "kernels/base/tensor.h"

namespace longtake::testing {

// Uniform in [-1, 1) * scale, from a 64-bit mixing function of (seed, index).
OwnedTensor random_tensor(Shape shape, uint64_t seed, float scale = 1.0f, DType dtype = DType::f32);

}  // namespace longtake::testing
