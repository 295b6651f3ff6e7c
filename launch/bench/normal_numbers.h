// Normally distributed numbers, fast enough for models of billions: 16 random bits choose one of
// 65536 quantiles.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/tensor.h"

namespace longtake {

// The numbers `index`, index + 1, ... of the sequence that belongs to `seed`.
void fill_normal(std::span<float> out, uint64_t seed, uint64_t index, float deviation, float mean);

// Standard normal numbers, f32 or bf16.
OwnedTensor normal_tensor(DType dtype, Shape shape, uint64_t seed);

}  // namespace longtake
