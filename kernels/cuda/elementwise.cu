#include "kernels/cuda/elementwise_launch.cuh"
#include "kernels/cuda/elementwise_start.h"
#include "kernels/cuda/stream_launch.cuh"

namespace longtake::cuda {

void start(const ConvertArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const SiluArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const GatedGeluArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const AddRowsArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const LinearCombinationArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const AddGatedArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const BiasActivationArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const NotFiniteArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start(const RelativeBiasArgs& a, CUstream_st* stream) {
  launch_op(a, StreamLaunch{stream});
}
void start_patchify(const PatchArgs& a, CUstream_st* stream) {
  launch_patchify(a, StreamLaunch{stream});
}
void start_unpatchify(const PatchArgs& a, CUstream_st* stream) {
  launch_unpatchify(a, StreamLaunch{stream});
}

}  // namespace longtake::cuda
