#include "kernels/cuda/conv_direct.cuh"
#include "kernels/cuda/stream_launch.cuh"

namespace longtake::cuda {

void start(const DirectConvArgs& a, CUstream_st* stream) {
  direct::launch_direct_conv(a, StreamLaunch{stream});
}

}  // namespace longtake::cuda
