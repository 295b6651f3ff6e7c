// Views: trivially copyable, never own. Row-major; all dimensions but the first are dense, the
// first may have a longer stride (a column range of a wider matrix). A signature that takes
// ConstTensor reads, one that takes Tensor writes. OwnedTensor holds the memory.
#pragma once

#include "kernels/base/buffer.h"
#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/error.h"
#include "kernels/base/shape.h"

namespace longtake {

template <class Void>
struct TensorView {
  Void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  int64_t row_stride = 0;  // elements between consecutive indices of the first dimension
  Device device;

  TensorView() = default;
  TensorView(Void* data_in, DType dtype_in, Shape shape_in, Device device_in = {})
      : data(data_in),
        dtype(dtype_in),
        shape(shape_in),
        row_stride(shape_in.inner_numel()),
        device(device_in) {}
  // A writable view can be read.
  TensorView(const TensorView<void>& other) requires std::is_const_v<Void>
      : data(other.data),
        dtype(other.dtype),
        shape(other.shape),
        row_stride(other.row_stride),
        device(other.device) {}
  TensorView(const TensorView&) = default;
  TensorView& operator=(const TensorView&) = default;

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int i) const { return shape[i]; }
  int rank() const { return shape.rank(); }
  int64_t numel() const { return shape.numel(); }
  bool dense() const {
    return row_stride == shape.inner_numel() || shape.rank() == 0 || shape[0] <= 1;
  }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_bytes(dtype); }

  template <class T>
  auto* as() const {
    LT_CHECK(dtype == dtype_of<T>(), "expected elements of type {}, found {}", name(dtype_of<T>()),
             name(dtype));
    using Pointer = std::conditional_t<std::is_const_v<Void>, const T*, T*>;
    return static_cast<Pointer>(data);
  }

  // Rows [begin, end) of the first dimension.
  TensorView rows(int64_t begin, int64_t end) const {
    LT_CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0),
             "rows {} to {} of a tensor {}", begin, end, shape.text());
    TensorView out = *this;
    out.shape[0] = end - begin;
    out.data = offset(begin * row_stride);
    return out;
  }
  // Columns [begin, end) of a matrix.
  TensorView columns(int64_t begin, int64_t end) const {
    LT_CHECK(rank() == 2 && 0 <= begin && begin <= end && end <= dim(1),
             "columns {} to {} of a tensor {}", begin, end, shape.text());
    TensorView out = *this;
    out.shape[1] = end - begin;
    out.data = offset(begin);
    return out;
  }
  // The same elements under another shape. A strided view keeps its first dimension.
  TensorView reshape(Shape to) const {
    LT_CHECK(to.numel() == numel(), "cannot view {} as {}", shape.text(), to.text());
    TensorView out = *this;
    if (dense()) {
      out.row_stride = to.inner_numel();
    } else {
      LT_CHECK(to.rank() >= 1 && to[0] == dim(0), "a strided {} cannot be viewed as {}",
               shape.text(), to.text());
    }
    out.shape = to;
    return out;
  }

 private:
  Void* offset(int64_t elements) const {
    using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
    return static_cast<Byte*>(data) + elements * static_cast<int64_t>(size_bytes(dtype));
  }
};

using Tensor = TensorView<void>;
using ConstTensor = TensorView<const void>;

// Dense memory with a type and a shape.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(DType dtype, Shape shape, Device device = {});  // contents undefined

  Tensor view() { return {buffer_.data(), dtype_, shape_, device_}; }
  ConstTensor view() const { return {buffer_.data(), dtype_, shape_, device_}; }
  operator Tensor() { return view(); }
  operator ConstTensor() const { return view(); }
  template <class T>
  T* as() {
    return view().as<T>();
  }
  template <class T>
  const T* as() const {
    return view().as<T>();
  }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_bytes(dtype_); }
  explicit operator bool() const { return buffer_.data() != nullptr; }
  void fill_zero();

 private:
  Buffer buffer_;
  DType dtype_ = DType::f32;
  Shape shape_;
  Device device_;
};

}  // namespace longtake
