#include "kernels/cuda/attention_merge_kernel.cuh"
#include "kernels/cuda/stream_launch.cuh"

namespace longtake::cuda {

void start(const AttentionMergeView& view, CUstream_st* stream) {
  launch_merge(view, StreamLaunch{stream});
}

}  // namespace longtake::cuda
