#include "kernels/cuda/memory.h"

#include "kernels/cuda/check.h"
#include "kernels/cuda/upload_ring.h"

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

void upload(Tensor to, const FillPiece& fill, Stream& stream) {
  const size_t size = size_bytes(to.dtype);
  stream.upload_ring().upload(
      to.data, to.bytes(),
      [&](size_t from, size_t bytes, void* host) {
        fill(static_cast<int64_t>(from / size), static_cast<int64_t>(bytes / size), host);
      },
      stream.handle());
}

void fill_zero(Tensor x, Stream& stream) {
  LT_CUDA(cudaMemsetAsync(x.data, 0, x.bytes(), stream.handle()));
}

}  // namespace longtake::cuda
