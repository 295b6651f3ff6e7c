// CUDA backend of kernels/conv.h.
#pragma once

#include "kernels/conv.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

struct PackedConv : ConvWeights::Packed {
  OwnedTensor weight;  // [out, columns]: (tap, kernel row, kernel column, in), zeros to a multiple
                       // of 8; f32 or bf16
  OwnedTensor bias;    // f32 [out], or empty

  size_t bytes() const override;
};

// weight f32 [out, in, kt, kh, kw], bias f32 [out] or empty, on the host or on the stream's GPU.
// With `compute` bf16 weights, and frames in f32, are rounded to bf16; sums are in f32 either way.
std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor weight, ConstTensor bias, DType compute,
                                               StreamRef stream);
void conv(std::span<const ConstTensor> frames, const ConvWeights& weights, Padding padding,
          bool accumulate, Tensor y, StreamRef stream);
// rows: what each output position sees is written into the rows of a matrix, part by part, and
// multiplied by the weights; takes everything. direct: 3 x 3 kernels of stride 1 with few output
// channels (conv_direct.cuh). cudnn: bf16 weights and a multiple of 8 input channels. automatic:
// the direct one where it can, for bf16 to more channels cuDNN where it has a plan, else rows;
// which depends on the sizes and the library alone.
enum class ConvProvider { automatic, rows, direct, cudnn };
const char* name(ConvProvider provider);

// The same by weights that are not those of a ConvWeights. Fails when the provider does not take
// it.
struct ConvSize {
  int64_t taps = 1, rows = 1, columns = 1, stride = 1;  // of the kernel
};
void conv(std::span<const ConstTensor> frames, const PackedConv& weights, const ConvSize& size,
          Padding padding, bool accumulate, Tensor y, StreamRef stream,
          ConvProvider provider = ConvProvider::automatic);

void upsample_nearest(ConstTensor x, Tensor y, StreamRef stream);
void upsample_duplicate(ConstTensor x, int64_t times, int64_t time, Tensor y, StreamRef stream);

}  // namespace longtake::cuda
