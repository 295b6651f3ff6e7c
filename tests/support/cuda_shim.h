// Runs CUDA kernels on the host: the threads of a block are fibers, blocks come one after another.
// Include it before a kernel's .cuh. A barrier or a warp function that some thread never reaches is
// an error that names block and thread. Static shared memory is not cleared between blocks, as on a
// GPU.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define LT_CUDA_SHIM 1
#define __global__ inline
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct __attribute__((may_alias, aligned(8))) uint2 {
  unsigned x, y;
};
struct __attribute__((may_alias, aligned(16))) uint4 {
  unsigned x, y, z, w;
};
struct __attribute__((may_alias, aligned(8))) float2 {
  float x, y;
};
struct __attribute__((may_alias, aligned(16))) float4 {
  float x, y, z, w;
};

namespace longtake::testing {

// Of the thread that runs.
struct CudaThread {
  dim3 thread, block, block_size, grid_size;
};
extern CudaThread cuda_thread;

// Runs `kernel` once for every thread of the grid; fails with Error.
void run_on_host(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);

void block_barrier();
enum class WarpOp { sync, value, ballot };
// Gives `value` to the lanes of `mask`, waits for theirs, and takes that of lane `source`; a ballot
// gives a bit for each lane whose value is not zero.
uint64_t warp_exchange(WarpOp op, uint32_t mask, uint64_t value, int source);
// The block's dynamic shared memory (in place of `extern __shared__`), aligned to 128 bytes.
void* dynamic_shared_memory();
int lane_of_thread();

template <class T>
T shuffle(uint32_t mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  word = warp_exchange(WarpOp::value, mask, word, source);
  std::memcpy(&value, &word, sizeof(T));
  return value;
}

}  // namespace longtake::testing

#define threadIdx (::longtake::testing::cuda_thread.thread)
#define blockIdx (::longtake::testing::cuda_thread.block)
#define blockDim (::longtake::testing::cuda_thread.block_size)
#define gridDim (::longtake::testing::cuda_thread.grid_size)

inline void __syncthreads() {
  longtake::testing::block_barrier();
}
inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  longtake::testing::warp_exchange(longtake::testing::WarpOp::sync, mask, 0, -1);
}
// Within parts of `width` lanes; a lane outside of the part gives back one's own value.
template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
  const int lane = longtake::testing::lane_of_thread();
  return longtake::testing::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32) {
  const int lane = longtake::testing::lane_of_thread(), source = lane ^ bits;
  const bool inside = source < (lane & ~(width - 1)) + width;
  return longtake::testing::shuffle(mask, value, inside ? source : lane);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned step, int width = 32) {
  const int lane = longtake::testing::lane_of_thread(), source = lane + static_cast<int>(step);
  const bool inside = source < (lane & ~(width - 1)) + width;
  return longtake::testing::shuffle(mask, value, inside ? source : lane);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned step, int width = 32) {
  const int lane = longtake::testing::lane_of_thread(), source = lane - static_cast<int>(step);
  return longtake::testing::shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane);
}
inline uint32_t __ballot_sync(uint32_t mask, bool predicate) {
  return static_cast<uint32_t>(longtake::testing::warp_exchange(longtake::testing::WarpOp::ballot,
                                                                mask, predicate ? 1 : 0, -1));
}
inline bool __any_sync(uint32_t mask, bool predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline bool __all_sync(uint32_t mask, bool predicate) {
  return __ballot_sync(mask, !predicate) == 0;
}

inline float __uint_as_float(uint32_t x) {
  return std::bit_cast<float>(x);
}
inline uint32_t __float_as_uint(float x) {
  return std::bit_cast<uint32_t>(x);
}
// Plain rounding: the host build contracts nothing into one.
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fsqrt_rn(float a) {
  return std::sqrt(a);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __expf(float x) {
  return std::exp(x);
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
