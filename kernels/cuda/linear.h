// CUDA backend of kernels/linear.h: the weight as it is stored, [out, in] in the compute dtype.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/linear.h"

namespace longtake::cuda {

struct PackedLinear : Linear::Packed {
  OwnedTensor weight;               // [out, in], the compute dtype
  OwnedTensor bias_f32, bias_bf16;  // [out], or empty; bf16 only for the compute dtype bf16

  size_t bytes() const override;  // with the biases
  const void* bias(DType dtype) const;
};

// weight and bias (may be empty) on the host or on the stream's GPU, f32, bf16 or f16.
std::unique_ptr<Linear::Packed> pack_linear(ConstTensor weight, ConstTensor bias, DType compute,
                                            StreamRef stream);
void linear(const LinearArgs& args, const Linear& weight, StreamRef stream);

// gelu in the product's own epilogue, when y is bf16: it saves a pass over y and is evaluated in
// bf16, less exactly than the f32 sum
// followed by gelu: tests/gpu/linear_test.cc says by how much it may differ. On from the start; f32
// never uses it.
void fuse_gelu(bool on);

}  // namespace longtake::cuda
