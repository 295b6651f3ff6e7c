#include "kernels/base/tensor.h"

#include <cstring>

namespace longtake {

OwnedTensor::OwnedTensor(DType dtype, Shape shape, Device device)
    : buffer_(static_cast<size_t>(shape.numel()) * size_bytes(dtype)),
      dtype_(dtype),
      shape_(shape),
      device_(device) {
  LT_CHECK(device.type == DeviceType::cpu, "this build has no memory on other devices");
}

void OwnedTensor::fill_zero() {
  if (bytes() != 0) std::memset(buffer_.data(), 0, bytes());
}

}  // namespace longtake
