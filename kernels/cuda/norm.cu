#include "kernels/cuda/norm_launch.cuh"
#include "kernels/cuda/norm_start.h"
#include "kernels/cuda/stream_launch.cuh"

namespace longtake::cuda {

void start(const LayerNormArgs& a, CUstream_st* stream) {
  launch_layer_norm(a, StreamLaunch{stream});
}
void start(const RmsNormArgs& a, CUstream_st* stream) {
  launch_rms_norm(a, StreamLaunch{stream});
}
void start(const ChannelNormArgs& a, CUstream_st* stream) {
  launch_channel_norm(a, StreamLaunch{stream});
}

}  // namespace longtake::cuda
