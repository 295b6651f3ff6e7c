#include "kernels/base/tensor.h"

#include <cstring>

namespace longtake {

OwnedTensor::OwnedTensor(DType dtype, Shape shape, Device device)
    : buffer_(static_cast<size_t>(shape.numel()) * size_bytes(dtype), device.memory),
      dtype_(dtype),
      shape_(shape),
      device_(device) {
  LT_CHECK(device.type == DeviceType::cpu || device.memory,
           "a tensor of a GPU needs the memory of one of its streams");
}

void OwnedTensor::fill_zero() {
  LT_CHECK(device_.type == DeviceType::cpu, "fill_zero: host memory only, see kernels/copy.h");
  if (bytes() != 0) std::memset(buffer_.data(), 0, bytes());
}

}  // namespace longtake
