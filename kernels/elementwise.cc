#include "kernels/elementwise.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/norm.h"
#include "kernels/cuda/elementwise.h"

namespace longtake {

namespace {

void check_same(const char* op, ConstTensor a, ConstTensor b, DType dtype) {
  LT_CHECK(a.numel() == b.numel() && a.dense() && b.dense() && a.dtype == dtype && b.dtype == dtype,
           "{}: expected two dense {} tensors of one size, found {} {} and {} {}", op, name(dtype),
           name(a.dtype), a.shape.text(), name(b.dtype), b.shape.text());
}

void convert_range(ConstTensor x, Tensor y, int64_t begin, int64_t end) {
  const cpu::KernelTable& kernels = cpu::active_kernels();
  const int64_t n = end - begin;
  const auto* x16 = static_cast<const uint16_t*>(x.data) + begin;
  const auto* x32 = static_cast<const float*>(x.data) + begin;
  auto* y16 = static_cast<uint16_t*>(y.data) + begin;
  auto* y32 = static_cast<float*>(y.data) + begin;
  if (x.dtype == y.dtype) {
    const size_t size = size_bytes(x.dtype);
    std::memcpy(static_cast<char*>(y.data) + static_cast<size_t>(begin) * size,
                static_cast<const char*>(x.data) + static_cast<size_t>(begin) * size,
                static_cast<size_t>(n) * size);
  } else if (x.dtype == DType::f32) {
    kernels.to_bf16(x32, y16, n);
  } else if (x.dtype == DType::bf16) {
    kernels.to_f32(x16, y32, n);
  } else if (y.dtype == DType::f32) {
    for (int64_t i = 0; i < n; ++i) y32[i] = f16_to_float(x16[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y16[i] = to_bf16(f16_to_float(x16[i])).bits;
  }
}

// An exponent of all ones is an infinity or NaN.
template <class Bits>
bool finite_range(const void* data, int64_t begin, int64_t end, Bits exponent) {
  const Bits* x = static_cast<const Bits*>(data);
  Bits bad = 0;  // as wide as an element: a bool would keep the loop scalar
  for (int64_t i = begin; i < end; ++i) bad |= Bits{(x[i] & exponent) == exponent};
  return bad == 0;
}

bool finite_range(ConstTensor x, int64_t begin, int64_t end) {
  switch (x.dtype) {
    case DType::f32:
      return finite_range<uint32_t>(x.data, begin, end, 0x7f800000u);
    case DType::bf16:
      return finite_range<uint16_t>(x.data, begin, end, 0x7f80);
    case DType::f16:
      return finite_range<uint16_t>(x.data, begin, end, 0x7c00);
    case DType::f64:
      return finite_range<uint64_t>(x.data, begin, end, 0x7ff0000000000000u);
    default:
      return true;
  }
}

}  // namespace

void convert(ConstTensor x, Tensor y, StreamRef stream) {
  LT_CHECK(x.numel() == y.numel() && x.dense() && y.dense(),
           "convert: expected dense tensors of one size, found {} and {}", x.shape.text(),
           y.shape.text());
  const bool from = x.dtype == DType::f32 || x.dtype == DType::bf16 || x.dtype == DType::f16;
  const bool to = y.dtype == DType::f32 || y.dtype == DType::bf16;
  LT_CHECK(from && to, "convert: no conversion from {} to {}", name(x.dtype), name(y.dtype));
  if (stream.on_gpu()) return cuda::convert(x, y, stream.cuda());
  cpu::parallel_rows(x.numel(), 1, stream,
                     [&](int64_t begin, int64_t end) { convert_range(x, y, begin, end); });
}

void silu(ConstTensor x, Tensor y, StreamRef stream) {
  check_same("silu", x, y, DType::f32);
  if (stream.on_gpu()) return cuda::silu(x, y, stream.cuda());
  cpu::parallel_rows(x.numel(), 1, stream, [&](int64_t begin, int64_t end) {
    cpu::active_kernels().silu(x.as<float>() + begin, y.as<float>() + begin, end - begin);
  });
}

void gated_gelu(ConstTensor a, ConstTensor b, Tensor y, StreamRef stream) {
  check_same("gated_gelu", a, b, a.dtype);
  check_same("gated_gelu", a, y, a.dtype);
  LT_CHECK(a.dtype == DType::f32 || a.dtype == DType::bf16, "gated_gelu: no kernel for {}",
           name(a.dtype));
  if (stream.on_gpu()) return cuda::gated_gelu(a, b, y, stream.cuda());
  const int64_t size = static_cast<int64_t>(size_bytes(a.dtype));
  cpu::parallel_rows(a.numel(), 1, stream, [&](int64_t begin, int64_t end) {
    cpu::active_kernels().gated_gelu(static_cast<const char*>(a.data) + begin * size,
                                     static_cast<const char*>(b.data) + begin * size,
                                     static_cast<char*>(y.data) + begin * size,
                                     cpu::row_type(a.dtype), end - begin);
  });
}

void add(ConstTensor x, Tensor y, StreamRef stream) {
  check_same("add", x, y, DType::f32);
  if (stream.on_gpu()) return cuda::add(x, y, stream.cuda());
  cpu::parallel_rows(x.numel(), 1, stream, [&](int64_t begin, int64_t end) {
    cpu::active_kernels().add(x.as<float>() + begin, y.as<float>() + begin, end - begin);
  });
}

void linear_combination(std::span<const ConstTensor> x, std::span<const float> weight, Tensor y,
                        StreamRef stream) {
  constexpr size_t kMost = 8;
  LT_CHECK(!x.empty() && x.size() <= kMost && x.size() == weight.size(),
           "linear_combination: expected 1 to {} tensors with a weight each, found {} and {}",
           kMost, x.size(), weight.size());
  for (const ConstTensor& t : x) check_same("linear_combination", t, y, DType::f32);
  if (stream.on_gpu()) return cuda::linear_combination(x, weight, y, stream.cuda());
  cpu::parallel_rows(y.numel(), 1, stream, [&](int64_t begin, int64_t end) {
    const float* at[kMost];
    for (size_t i = 0; i < x.size(); ++i) at[i] = x[i].as<float>() + begin;
    cpu::active_kernels().linear_combination(at, weight.data(), static_cast<int>(x.size()),
                                             y.as<float>() + begin, end - begin);
  });
}

void add_rows(ConstTensor rows, ConstTensor table, Tensor sum, StreamRef stream) {
  LT_CHECK(rows.rank() == 2 && rows.shape == sum.shape && table.numel() == rows.dim(1) &&
               table.dense() && rows.dtype == DType::f32 && table.dtype == DType::f32 &&
               sum.dtype == DType::f32,
           "add_rows: expected f32 [n, dim] and [dim], found {}, {} and {}", rows.shape.text(),
           table.shape.text(), sum.shape.text());
  if (stream.on_gpu()) return cuda::add_rows(rows, table, sum, stream.cuda());
  const float* t = table.as<float>();
  for (int64_t i = 0; i < rows.dim(0); ++i) {
    const float* from = rows.as<float>() + i * rows.row_stride;
    float* to = sum.as<float>() + i * sum.row_stride;
    for (int64_t j = 0; j < rows.dim(1); ++j) to[j] = from[j] + t[j];
  }
}

void relative_bias(ConstTensor table, ConstTensor bucket, Tensor bias, StreamRef stream) {
  const int64_t heads = bias.dim(0), n = bias.dim(1);
  LT_CHECK(bias.shape == Shape({heads, n, n}) && bias.dtype == DType::f32 && bias.dense() &&
               table.rank() == 2 && table.dim(1) == heads && table.dtype == DType::f32 &&
               table.dense() && bucket.shape == Shape({2 * n - 1}) && bucket.dtype == DType::i32,
           "relative_bias: a table {} by buckets {} cannot become {}", table.shape.text(),
           bucket.shape.text(), bias.shape.text());
  if (stream.on_gpu()) return cuda::relative_bias(table, bucket, bias, stream.cuda());
  // Every row is a window of one vector per head.
  stream.pool().parallel_for(heads, [&](int64_t head, int) {
    std::vector<float> of_distance(static_cast<size_t>(2 * n - 1));
    for (int64_t d = 0; d < 2 * n - 1; ++d)
      of_distance[static_cast<size_t>(d)] =
          table.as<float>()[bucket.as<int32_t>()[d] * heads + head];
    float* out = bias.as<float>() + head * n * n;
    for (int64_t query = 0; query < n; ++query)
      std::memcpy(out + query * n, of_distance.data() + n - 1 - query,
                  static_cast<size_t>(n) * sizeof(float));
  });
}

bool all_finite(ConstTensor x, StreamRef stream) {
  LT_CHECK(x.dense(), "all_finite: a dense tensor is needed");
  if (stream.on_gpu() && x.device.type == DeviceType::cuda)
    return cuda::all_finite(x, stream.cuda());
  std::atomic<bool> finite{true};
  cpu::parallel_rows(x.numel(), 1, stream, [&](int64_t begin, int64_t end) {
    if (!finite_range(x, begin, end)) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

}  // namespace longtake
