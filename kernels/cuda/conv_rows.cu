#include <cuda_bf16.h>

#include <type_traits>

#include "kernels/cuda/check.h"
#include "kernels/cuda/conv_rows.h"

namespace longtake::cuda {

namespace {

constexpr int kThreads = 256;

template <int kWidth>
struct Values {
  float v[kWidth];
};

// Eight bf16 that stay as they are.
struct Words {
  uint4 bits;
};
template <int kWidth, class From>
using Loaded = std::conditional_t<kWidth == 8 && sizeof(From) == 2, Words, Values<kWidth>>;

// `from` aligned to 16 bytes when kWidth > 1.
template <int kWidth>
__device__ Loaded<kWidth, __nv_bfloat16> load(const __nv_bfloat16* from) {
  if constexpr (kWidth == 8)
    return {*reinterpret_cast<const uint4*>(from)};
  else
    return {{__bfloat162float(*from)}};
}
template <int kWidth>
__device__ Values<kWidth> load(const float* from) {
  Values<kWidth> out;
  if constexpr (kWidth == 1) {
    out.v[0] = *from;
  } else {
    for (int i = 0; i < kWidth; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      out.v[i] = four.x;
      out.v[i + 1] = four.y;
      out.v[i + 2] = four.z;
      out.v[i + 3] = four.w;
    }
  }
  return out;
}

template <int kWidth>
__device__ void store(float* to, const Values<kWidth>& x) {
  if constexpr (kWidth == 4)
    *reinterpret_cast<float4*>(to) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  else
    *to = x.v[0];
}

template <int kWidth>
__device__ void store(__nv_bfloat16* to, const Values<kWidth>& x) {
  if constexpr (kWidth == 8) {
    union {
      __nv_bfloat162 pair[4];
      uint4 bits;
    } packed;
    for (int i = 0; i < 4; ++i) packed.pair[i] = __floats2bfloat162_rn(x.v[2 * i], x.v[2 * i + 1]);
    *reinterpret_cast<uint4*>(to) = packed.bits;
  } else {
    *to = __float2bfloat16_rn(x.v[0]);
  }
}

__device__ void store(__nv_bfloat16* to, const Words& x) {
  *reinterpret_cast<uint4*>(to) = x.bits;
}

// One thread makes kWidth neighbouring elements of a matrix row; kWidth divides `in` and `columns`.
template <int kWidth, class From, class To>
__global__ void __launch_bounds__(kThreads) conv_rows_kernel(ConvRows r, To* matrix) {
  const uint32_t groups = static_cast<uint32_t>(r.columns / kWidth);
  const uint32_t total =
      static_cast<uint32_t>(r.rows) * static_cast<uint32_t>(r.width_out) * groups;
  const uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= total) return;
  const uint32_t position = at / groups;
  const int column = static_cast<int>(at % groups) * kWidth;
  const int tap_of_all = column / r.in, channel = column % r.in;
  const int kernel_column = tap_of_all % r.kernel_columns;
  const int kernel_row = tap_of_all / r.kernel_columns % r.kernel_rows;
  const int tap = tap_of_all / (r.kernel_columns * r.kernel_rows);
  const int h_out = r.first_row + static_cast<int>(position / static_cast<uint32_t>(r.width_out));
  const int w_out = static_cast<int>(position % static_cast<uint32_t>(r.width_out));
  const int h = h_out * r.stride - r.pad_top + kernel_row;
  const int w = w_out * r.stride - r.pad_left + kernel_column;
  Loaded<kWidth, From> x{};
  if (tap < r.taps && 0 <= h && h < r.height && 0 <= w && w < r.width) {
    // An index into the parameters would put them into local memory.
    const void* frame = nullptr;
#pragma unroll
    for (int i = 0; i < ConvRows::kMostTaps; ++i)
      if (i == tap) frame = r.frames[i];
    if (frame)
      x = load<kWidth>(static_cast<const From*>(frame) + (int64_t{h} * r.width + w) * r.in +
                       channel);
  }
  store(matrix + int64_t{position} * r.columns + column, x);
}

bool aligned(const ConvRows& r) {
  for (int i = 0; i < r.taps; ++i)
    if (reinterpret_cast<uintptr_t>(r.frames[i]) % 16 != 0) return false;
  return true;
}

template <int kWidth, class From, class To>
void launch(const ConvRows& r, void* matrix, CUstream_st* stream) {
  const bool wide = r.in % kWidth == 0 && r.columns % kWidth == 0 && aligned(r);
  const int64_t threads = int64_t{r.rows} * r.width_out * (r.columns / (wide ? kWidth : 1));
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  auto* to = static_cast<To*>(matrix);
  if (wide)
    conv_rows_kernel<kWidth, From><<<blocks, kThreads, 0, stream>>>(r, to);
  else
    conv_rows_kernel<1, From><<<blocks, kThreads, 0, stream>>>(r, to);
  LT_CUDA(cudaGetLastError());
}

template <class T>
__global__ void upsample_kernel(const T* x, int64_t width, int64_t channels, int64_t total, T* y) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= total) return;
  const int64_t c = at % channels, pixel = at / channels;
  const int64_t column = pixel % (2 * width), row = pixel / (2 * width);
  y[at] = x[(row / 2 * width + column / 2) * channels + c];
}

__global__ void duplicate_kernel(const float* x, int64_t width, int64_t in, int64_t out,
                                 int64_t times, int64_t time, int64_t total, float* y) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= total) return;
  const int64_t o = at % out, pixel = at / out;
  const int64_t column = pixel % (2 * width), row = pixel / (2 * width);
  const int64_t repeats = out * times * 4 / in;
  const int64_t from = ((o * times + time) * 4 + row % 2 * 2 + column % 2) / repeats;
  y[at] = x[(row / 2 * width + column / 2) * in + from];
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

void conv_rows(const ConvRows& r, DType frames, DType matrix_type, void* matrix,
               CUstream_st* stream) {
  if (matrix_type == DType::f32)
    launch<4, float, float>(r, matrix, stream);
  else if (frames == DType::f32)
    launch<8, float, __nv_bfloat16>(r, matrix, stream);
  else
    launch<8, __nv_bfloat16, __nv_bfloat16>(r, matrix, stream);
}

void upsample_nearest(const void* x, DType type, int64_t height, int64_t width, int64_t channels,
                      void* y, CUstream_st* stream) {
  const auto bytes = channels * static_cast<int64_t>(size_bytes(type));  // of a position
  if (height * width * bytes == 0) return;
  const auto run = [&]<class T>(T) {
    const auto unit = static_cast<int64_t>(sizeof(T));
    const int64_t total = 4 * height * width * bytes / unit;
    upsample_kernel<<<blocks_for(total), kThreads, 0, stream>>>(
        static_cast<const T*>(x), width, bytes / unit, total, static_cast<T*>(y));
  };
  const auto bits = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y);
  if (bytes % 16 == 0 && bits % 16 == 0)
    run(uint4{});
  else if (type == DType::f32)
    run(uint32_t{});
  else
    run(uint16_t{});
  LT_CUDA(cudaGetLastError());
}

void upsample_duplicate(const float* x, int64_t height, int64_t width, int64_t in, int64_t out,
                        int64_t times, int64_t time, float* y, CUstream_st* stream) {
  const int64_t total = 4 * height * width * out;
  if (total == 0) return;
  duplicate_kernel<<<blocks_for(total), kThreads, 0, stream>>>(x, width, in, out, times, time,
                                                               total, y);
  LT_CUDA(cudaGetLastError());
}

}  // namespace longtake::cuda
