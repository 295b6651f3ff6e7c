// CUDA backend of kernels/attention.h.
#pragma once

#include <string>

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// Kernels that can do the work. All give the same result up to rounding; each gives the same bits
// every time, and for a head whatever the other heads are.
enum class AttentionProvider {
  automatic,     // the first of wgmma, mma and plain that can; products where none does
  plain,         // f32 arithmetic, everything up to head_dim 512
  mma,           // bf16, tensor cores of compute 8.0 and later
  wgmma_simple,  // bf16, Hopper's tensor cores, each product waited for
  wgmma,         // the same, products and softmax overlapped: the same bits
  cudnn,         // bf16, dense, one segment
  products,      // any head_dim, dense, one segment (attention_products.h)
};
const char* name(AttentionProvider provider);

// Arguments have been checked (kernels/attention.cc).
void attention(const AttentionArgs& args, Stream& stream);
// Fails when the provider cannot do it.
void attention(const AttentionArgs& args, Stream& stream, AttentionProvider provider);
// Why this provider cannot do it; empty when it can (cuDNN may still refuse).
std::string attention_obstacle(const AttentionArgs& args, Stream& stream,
                               AttentionProvider provider);

}  // namespace longtake::cuda
