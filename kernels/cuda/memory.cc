#include "kernels/cuda/memory.h"

#include "kernels/cuda/check.h"

namespace longtake::cuda {

void copy(ConstTensor from, Tensor to, const MemoryRows& rows, Stream& stream) {
  if (rows.count == 1)
    LT_CUDA(cudaMemcpyAsync(to.data, from.data, rows.bytes, cudaMemcpyDefault, stream.handle()));
  else
    LT_CUDA(cudaMemcpy2DAsync(to.data, rows.to_stride, from.data, rows.from_stride, rows.bytes,
                              rows.count, cudaMemcpyDefault, stream.handle()));
  if (from.device.type == DeviceType::cpu || to.device.type == DeviceType::cpu)
    stream.synchronize();
}

void fill_zero(Tensor x, Stream& stream) {
  LT_CUDA(cudaMemsetAsync(x.data, 0, x.bytes(), stream.handle()));
}

}  // namespace longtake::cuda
