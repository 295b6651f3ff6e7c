// Apart from norm.cu: half of all instances.
#include "kernels/cuda/norm_launch.cuh"
#include "kernels/cuda/norm_start.h"
#include "kernels/cuda/stream_launch.cuh"

namespace longtake::cuda {

void start(const GatedLayerNormArgs& a, CUstream_st* stream) {
  launch_gated_layer_norm(a, StreamLaunch{stream});
}

}  // namespace longtake::cuda
