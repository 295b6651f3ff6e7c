// Attention as matrix products with a softmax between them, for heads that no other kernel takes.
#pragma once

#include <string>

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// Any head_dim; one segment with keys, without logit bias, dense bias or tiles. Queries go part by
// part, so that their logits take at most `logits_bytes` (but at least one row is done at a time).
// Which algorithm a product has depends on strides and alignment (gemm.h): a head's bits may change
// where its rows lie otherwise.
void attention_by_products(const AttentionArgs& args, Stream& stream,
                           int64_t logits_bytes = int64_t{256} << 20);
// Why it cannot be done so; empty when it can.
std::string products_obstacle(const AttentionArgs& args);

}  // namespace longtake::cuda
