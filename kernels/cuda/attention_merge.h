// CUDA backend of kernels/attention_merge.h. Arguments have been checked, parts are in order.
#pragma once

#include "kernels/attention_merge.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

void merge_attention(const AttentionMergeArgs& args, Stream& stream);

}  // namespace longtake::cuda
