#include "kernels/cuda/attention_products.cuh"
#include "kernels/cuda/stream_launch.cuh"

namespace longtake::cuda {

void start(const SoftmaxRowsArgs& a, DType type, CUstream_st* stream) {
  products::launch_softmax(a, type, StreamLaunch{stream});
}
void start(const TransposeArgs& a, DType type, CUstream_st* stream) {
  products::launch_transpose(a, type, StreamLaunch{stream});
}

}  // namespace longtake::cuda
