// The two things taken from oneDNN, matrix product and 2-D convolution, as single-threaded kernels
// of one fixed shape. Our thread pool calls them tile by tile, so their order of summation never
// depends on the number of threads. Holds the differences between oneDNN 2 and 3. Needs no oneDNN
// header.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "kernels/base/dtype.h"
#include "kernels/base/thread_pool.h"

namespace longtake::cpu {

// Does this processor multiply bf16, or is bf16 widened to f32 before?
bool multiplies_bf16();

// c[m, n] = a[m, k] b[k, n], all dense, c f32; a, b f32 or bf16, b packed.
struct MatmulShape {
  int64_t m, n, k;
  DType dtype;
  auto operator<=>(const MatmulShape&) const = default;
};

// Where packed b holds what, in units of 32 bits, one f32 or two bf16 of consecutive k: unit u of
// column n at [n / block][u][n % block]; what is past the matrix is zero.
struct PackedLayout {
  int64_t columns;  // n rounded up
  int64_t units;    // of a column, rounded up
  int64_t block;
};

class Matmul {
 public:
  static std::shared_ptr<const Matmul> get(const MatmulShape& shape);  // cached, thread-safe

  // Size and packing of b, the same for every m. weight is [n, k] row-major.
  static size_t packed_bytes(int64_t n, int64_t k, DType dtype);
  static void pack(const void* weight, DType weight_dtype, int64_t n, int64_t k, DType dtype,
                   void* packed);
  // None: only pack() knows.
  static std::optional<PackedLayout> packed_layout(int64_t n, int64_t k, DType dtype);

  void run(const void* a, const void* b, float* c, ThreadPool& pool, int worker) const;

  struct Primitive;
  explicit Matmul(std::unique_ptr<Primitive> primitive);
  ~Matmul();

 private:
  std::unique_ptr<Primitive> primitive_;
};

// 2-D convolution of rows of one channels-last image, stride 1 or 2, any padding; output f32,
// optionally added to what is there.
struct ConvShape {
  int64_t in_channels, out_channels;
  int64_t in_rows, in_columns;
  int64_t kernel_rows, kernel_columns;
  int64_t stride;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  bool accumulate;
  bool bias;
  auto operator<=>(const ConvShape&) const = default;

  int64_t out_rows() const { return (in_rows + pad_top + pad_bottom - kernel_rows) / stride + 1; }
  int64_t out_columns() const {
    return (in_columns + pad_left + pad_right - kernel_columns) / stride + 1;
  }
};

class Conv {
 public:
  static std::shared_ptr<const Conv> get(const ConvShape& shape);  // cached, thread-safe

  // oneDNN wants the weights in a layout that depends on the image's shape too; a number stands for
  // it.
  int layout() const;
  static int plain_layout(const ConvShape& shape);  // [out, in, kernel_rows, kernel_columns]
  static size_t packed_bytes(int layout);
  static void repack(int from_layout, const void* from, int to_layout, void* to);

  void run(const float* in, const void* weight, const float* bias, float* out, ThreadPool& pool,
           int worker) const;

  struct Primitive;
  explicit Conv(std::unique_ptr<Primitive> primitive);
  ~Conv();

 private:
  std::unique_ptr<Primitive> primitive_;
};

}  // namespace longtake::cpu
