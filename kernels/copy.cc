#include "kernels/copy.h"

#include <cstring>

#include "kernels/base/error.h"
#include "kernels/cuda/memory.h"

namespace longtake {

namespace {

// A dense tensor is one row.
MemoryRows rows_of(ConstTensor from, Tensor to) {
  const size_t size = size_bytes(from.dtype);
  if (from.dense() && to.dense()) return {1, from.bytes(), from.bytes(), from.bytes()};
  return {static_cast<size_t>(from.dim(0)), static_cast<size_t>(from.shape.inner_numel()) * size,
          static_cast<size_t>(from.row_stride) * size, static_cast<size_t>(to.row_stride) * size};
}

}  // namespace

void copy(ConstTensor from, Tensor to, StreamRef stream) {
  LT_CHECK(from.shape == to.shape && from.dtype == to.dtype, "copy: {} {} cannot become {} {}",
           name(from.dtype), from.shape.text(), name(to.dtype), to.shape.text());
  if (from.numel() == 0) return;
  const MemoryRows rows = rows_of(from, to);
  if (from.device.type == DeviceType::cuda || to.device.type == DeviceType::cuda) {
    LT_CHECK(stream.on_gpu(), "copy: device memory needs a stream of its GPU");
    cuda::copy(from, to, rows, stream.cuda());
    return;
  }
  const auto* source = static_cast<const char*>(from.data);
  auto* target = static_cast<char*>(to.data);
  for (size_t i = 0; i < rows.count; ++i)
    std::memcpy(target + i * rows.to_stride, source + i * rows.from_stride, rows.bytes);
}

void fill_from_host(Tensor x, const FillPiece& fill, StreamRef stream) {
  LT_CHECK(x.dense(), "fill_from_host: a dense tensor is needed, found {}", x.shape.text());
  if (x.device.type == DeviceType::cuda)
    cuda::upload(x, fill, stream.cuda());
  else
    fill(0, x.numel(), x.data);
}

void fill_zero(Tensor x, StreamRef stream) {
  LT_CHECK(x.dense(), "fill_zero: a dense tensor is needed, found {}", x.shape.text());
  if (x.numel() == 0) return;
  if (x.device.type == DeviceType::cuda)
    cuda::fill_zero(x, stream.cuda());
  else
    std::memset(x.data, 0, x.bytes());
}

OwnedTensor to_device(ConstTensor x, StreamRef stream) {
  OwnedTensor out(x.dtype, x.shape, stream.device());
  copy(x, out, stream);
  return out;
}

OwnedTensor to_host(ConstTensor x, StreamRef stream) {
  OwnedTensor out(x.dtype, x.shape);
  copy(x, out, stream);
  return out;
}

}  // namespace longtake
