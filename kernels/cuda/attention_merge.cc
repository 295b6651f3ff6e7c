#include "kernels/cuda/attention_merge.h"

#include "kernels/cuda/attention_merge_args.h"
#include "kernels/cuda/check.h"

namespace longtake::cuda {

void merge_attention(const AttentionMergeArgs& args, Stream& stream) {
  start(view_of(args), stream.handle());
  LT_CUDA(cudaGetLastError());
}

}  // namespace longtake::cuda
