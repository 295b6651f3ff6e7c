// A 3 x 3 convolution to few channels, such as the last one of the VAE, without a matrix: a block
// makes 8 x 64 positions. A frame's part of the tile and the weights of 8 channels at a time are in
// shared memory as f32; a thread has 4 neighbouring positions x all output channels in registers.
// Each sum runs over (tap, channels of 8, kernel row, channel, kernel column), in f32.
#pragma once

#include "kernels/cuda/chunk.cuh"
#include "kernels/cuda/conv_direct.h"

namespace longtake::cuda::direct {

constexpr int kThreads = 128;
constexpr int kRows = 8, kColumns = 64, kChannels = 8;  // of a tile
constexpr int kPositions = 4;                           // of a thread, in a row
constexpr int kHaloRows = kRows + 2, kHaloColumns = kColumns + 2;
constexpr int kPitch = 68;  // float4 of every row are aligned
static_assert(kThreads == kRows * kColumns / kPositions && kPitch >= kHaloColumns);

template <int kOut>
struct Shared {
  alignas(16) float x[kChannels][kHaloRows][kPitch];
  alignas(16) float weight[9][kChannels][kOut];  // [kernel row, kernel column]
};

// The value that takes part in products of type W.
template <class W>
__device__ __forceinline__ float operand(float x) {
  W rounded;
  narrow(x, rounded);
  return widen(rounded);
}

// Channels [c0, c0 + 8) of the tile with one position more on each side, from frame position
// (h0, w0) on; zeros outside of the frame and beyond the last channel.
template <class X, class W>
__device__ __forceinline__ void stage_frame(const ConvRows& r, const X* frame, int h0, int w0,
                                            int c0, bool vector,
                                            float (&x)[kChannels][kHaloRows][kPitch]) {
  for (int i = static_cast<int>(threadIdx.x); i < kHaloRows * kHaloColumns; i += kThreads) {
    const int row = i / kHaloColumns, column = i % kHaloColumns;
    const int h = h0 + row, w = w0 + column;
    float v[kChannels] = {};
    if (0 <= h && h < r.height && 0 <= w && w < r.width) {
      const X* from = frame + (int64_t{h} * r.width + w) * r.in + c0;
      if (vector) {
        load_chunk(from, v);
      } else {
        LT_UNROLL
        for (int c = 0; c < kChannels; ++c)
          if (c0 + c < r.in) v[c] = widen(from[c]);
      }
    }
    LT_UNROLL
    for (int c = 0; c < kChannels; ++c) x[c][row][column] = operand<W>(v[c]);
  }
}

// The same channels of the weights [out, (tap, kernel row, kernel column, in)].
template <int kOut, class W>
__device__ __forceinline__ void stage_weight(const DirectConvArgs& a, int tap, int c0,
                                             float (&weight)[9][kChannels][kOut]) {
  for (int i = static_cast<int>(threadIdx.x); i < 9 * kChannels * kOut; i += kThreads) {
    const int o = i % kOut, c = i / kOut % kChannels, place = i / (kOut * kChannels);
    float v = 0.0f;
    if (o < a.out && c0 + c < a.rows.in)
      v = widen(static_cast<const W*>(
          a.weight)[int64_t{o} * a.rows.columns + (tap * 9 + place) * a.rows.in + c0 + c]);
    weight[place][c][o] = v;
  }
}

template <int kOut>
__device__ __forceinline__ void multiply(const Shared<kOut>& s, int row, int column,
                                         float (&sum)[kPositions][kOut]) {
  for (int i = 0; i < 3; ++i) {
    for (int c = 0; c < kChannels; ++c) {
      float x[kPositions + 2];
      load_chunk(&s.x[c][row + i][column], x);
      LT_UNROLL
      for (int j = 0; j < 3; ++j) {
        float weight[kOut];
        load_chunk(s.weight[3 * i + j][c], weight);
        LT_UNROLL
        for (int p = 0; p < kPositions; ++p) {
          LT_UNROLL
          for (int o = 0; o < kOut; ++o) sum[p][o] = __fmaf_rn(x[p + j], weight[o], sum[p][o]);
        }
      }
    }
  }
}

// X of the frames, W of the weights. vector: 8 channels of a frame can be read at once.
template <int kOut, class X, class W>
__global__ void __launch_bounds__(kThreads) direct_conv_kernel(DirectConvArgs a, bool vector) {
  __shared__ Shared<kOut> s;
  const ConvRows& r = a.rows;
  const int tiles = (r.width_out + kColumns - 1) / kColumns;
  const int h = static_cast<int>(blockIdx.x) / tiles * kRows;
  const int w = static_cast<int>(blockIdx.x) % tiles * kColumns;
  const int row = static_cast<int>(threadIdx.x) / (kColumns / kPositions);
  const int column = static_cast<int>(threadIdx.x) % (kColumns / kPositions) * kPositions;
  float sum[kPositions][kOut] = {};
  for (int tap = 0; tap < r.taps; ++tap) {
    const void* frame = nullptr;
    LT_UNROLL
    for (int i = 0; i < ConvRows::kMostTaps; ++i)
      if (i == tap) frame = r.frames[i];
    if (!frame) continue;
    for (int c0 = 0; c0 < r.in; c0 += kChannels) {
      __syncthreads();
      stage_frame<X, W>(r, static_cast<const X*>(frame), h - r.pad_top, w - r.pad_left, c0, vector,
                        s.x);
      stage_weight<kOut, W>(a, tap, c0, s.weight);
      __syncthreads();
      multiply(s, row, column, sum);
    }
  }
  if (h + row >= r.rows) return;
  LT_UNROLL
  for (int p = 0; p < kPositions; ++p) {
    if (w + column + p >= r.width_out) return;
    float* y = a.y + (int64_t{h + row} * r.width_out + w + column + p) * a.out;
    LT_UNROLL
    for (int o = 0; o < kOut; ++o) {
      if (o >= a.out) break;
      const float v = a.bias ? __fadd_rn(sum[p][o], a.bias[o]) : sum[p][o];
      y[o] = a.accumulate ? __fadd_rn(y[o], v) : v;
    }
  }
}

template <int kOut, class Launch>
void launch_of(const DirectConvArgs& a, Launch launch) {
  const ConvRows& r = a.rows;
  bool vector = r.in % kChannels == 0;
  for (int i = 0; i < r.taps; ++i)
    vector = vector && reinterpret_cast<uintptr_t>(r.frames[i]) % 16 == 0;
  const int tiles = (r.rows + kRows - 1) / kRows * ((r.width_out + kColumns - 1) / kColumns);
  const auto run = [&](auto kernel) {
    launch(kernel, static_cast<unsigned>(tiles), kThreads, a, vector);
  };
  if (a.weight_type == DType::f32)
    run(direct_conv_kernel<kOut, float, float>);
  else if (a.frame_type == DType::f32)
    run(direct_conv_kernel<kOut, float, bf16>);
  else
    run(direct_conv_kernel<kOut, bf16, bf16>);
}

template <class Launch>
void launch_direct_conv(const DirectConvArgs& a, Launch launch) {
  if (a.out <= 4)
    launch_of<4>(a, launch);
  else if (a.out <= 12)
    launch_of<12>(a, launch);
  else
    launch_of<kDirectMostOut>(a, launch);
}

}  // namespace longtake::cuda::direct
