// Row-wise normalisations: a row is read once into registers, its statistics are f32 sums in the
// fixed order of its plan (kernels/cuda/row_plan.h), and it is written once. Rows may be updated in
// place: a thread writes only what it has read itself.
#pragma once

#include "kernels/cuda/chunk.cuh"
#include "kernels/cuda/norm_args.h"
#include "kernels/cuda/row_plan.h"

namespace longtake::cuda {

template <class T>
__device__ __forceinline__ const T* row_at(const ConstRows& rows, int64_t row) {
  return static_cast<const T*>(rows.data) + row * rows.stride;
}
template <class T>
__device__ __forceinline__ T* row_at(const Rows& rows, int64_t row) {
  return static_cast<T*>(rows.data) + row * rows.stride;
}

// v[k] = chunk k * threads + lane of a row, zeros beyond its end.
template <class X, int threads, int vectors, int chunk>
__device__ __forceinline__ void load_row(const X* x, int lane, int dim, bool vector,
                                         float (&v)[vectors][chunk]) {
  if (vector) {
    // Beyond the end the first chunk instead: no branch lets one load wait for another.
    LT_UNROLL
    for (int k = 0; k < vectors; ++k) {
      const int at = (k * threads + lane) * chunk;
      load_chunk(x + (at < dim ? at : 0), v[k]);
    }
    LT_UNROLL
    for (int k = 0; k < vectors; ++k) {
      LT_UNROLL
      for (int c = 0; c < chunk; ++c)
        if ((k * threads + lane) * chunk >= dim) v[k][c] = 0.0f;
    }
    return;
  }
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    LT_UNROLL
    for (int c = 0; c < chunk; ++c) {
      const int at = (k * threads + lane) * chunk + c;
      v[k][c] = at < dim ? widen(x[at]) : 0.0f;
    }
  }
}

// Elements [at, at + chunk) of a row: of an f32 table, and results.
template <int chunk>
__device__ __forceinline__ void load_some(const float* p, int at, int dim, bool vector,
                                          float (&v)[chunk]) {
  if (vector) {
    load_table(p + at, v);
    return;
  }
  LT_UNROLL
  for (int c = 0; c < chunk; ++c) v[c] = at + c < dim ? p[at + c] : 0.0f;
}
template <class Y, int chunk>
__device__ __forceinline__ void store_some(Y* p, int at, int dim, bool vector,
                                           const float (&v)[chunk]) {
  if (vector) {
    store_chunk(p + at, v);
    return;
  }
  LT_UNROLL
  for (int c = 0; c < chunk; ++c)
    if (at + c < dim) narrow(v[c], p[at + c]);
}

// The sum over the threads of a row, the same bits in each of them: a butterfly within a warp,
// then the warps in order. All threads of the block call it; `partial` is used once.
template <int threads>
__device__ __forceinline__ float row_sum(float x, float* partial) {
  LT_UNROLL
  for (int step = (threads < 32 ? threads : 32) / 2; step > 0; step /= 2)
    x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, step));
  if constexpr (threads > 32) {
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    x = partial[0];
    LT_UNROLL
    for (int i = 1; i < threads / 32; ++i) x = __fadd_rn(x, partial[i]);
  }
  return x;
}

// Where a thread is. Rows beyond the end take part in sums and store nothing.
template <int threads>
struct Place {
  int lane;
  int64_t row;
  bool inside;

  __device__ __forceinline__ explicit Place(int64_t rows) {
    constexpr int kRows = (threads > 32 ? threads : 128) / threads;
    lane = static_cast<int>(threadIdx.x) % threads;
    row = int64_t{blockIdx.x} * kRows + static_cast<int>(threadIdx.x) / threads;
    inside = row < rows;
    if (!inside) row = rows - 1;
  }
};

constexpr int kMostWarps = 16;

// Blocks of a multiprocessor, for the compiler: 0 lets it trade registers for warps, which is best
// but spills a register or two of plans of 4 and 8 chunks.
constexpr int least_blocks(int vectors) {
  return vectors % 4 == 0 ? 1 : 0;
}

// The whole of a layer norm once its row is in registers.
template <class Y, int threads, int vectors>
__device__ __forceinline__ void normalize(const float (&v)[vectors][4], const Place<threads>& place,
                                          const LayerNormArgs& a, bool vector) {
  __shared__ float partial[2][kMostWarps];
  float sum = 0.0f;
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    LT_UNROLL
    for (int c = 0; c < 4; ++c) sum = __fadd_rn(sum, v[k][c]);
  }
  const float mean = __fmul_rn(row_sum<threads>(sum, partial[0]), a.inverse_dim);

  float square = 0.0f;
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    LT_UNROLL
    for (int c = 0; c < 4; ++c) {
      const float d = __fsub_rn(v[k][c], mean);
      if ((k * threads + place.lane) * 4 + c < a.dim) square = __fmaf_rn(d, d, square);
    }
  }
  const float variance = __fmul_rn(row_sum<threads>(square, partial[1]), a.inverse_dim);
  const float inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(variance, a.eps)));

  if (!place.inside) return;
  const Modulation& m = a.modulation;
  const int64_t from = m.row ? m.row[place.row] * m.stride : 0;
  Y* y = row_at<Y>(a.y, place.row);
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    const int at = (k * threads + place.lane) * 4;
    if (at >= a.dim) continue;
    float scale[4], shift[4], out[4];
    load_some(m.scale + from, at, a.dim, vector, scale);
    load_some(m.shift + from, at, a.dim, vector, shift);
    LT_UNROLL
    for (int c = 0; c < 4; ++c)
      out[c] = __fmaf_rn(__fmul_rn(__fsub_rn(v[k][c], mean), inverse), __fadd_rn(m.one, scale[c]),
                         shift[c]);
    store_some(y, at, a.dim, vector, out);
  }
}

template <class Y, int threads, int vectors>
__global__ void __launch_bounds__(threads > 32 ? threads : 128, least_blocks(vectors))
    layer_norm_kernel(LayerNormArgs a, bool vector) {
  const Place<threads> place(a.rows);
  float v[vectors][4];
  load_row<float, threads>(row_at<float>(a.x, place.row), place.lane, a.dim, vector, v);
  normalize<Y, threads>(v, place, a, vector);
}

template <class U, class Y, int threads, int vectors>
__global__ void __launch_bounds__(threads > 32 ? threads : 128, least_blocks(vectors))
    gated_layer_norm_kernel(GatedLayerNormArgs a, bool vector) {
  const int dim = a.norm.dim;
  const Place<threads> place(a.norm.rows);
  float v[vectors][4], update[vectors][4];
  float* residual = row_at<float>(a.residual, place.row);
  load_row<float, threads>(residual, place.lane, dim, vector, v);
  load_row<U, threads>(row_at<U>(a.update, place.row), place.lane, dim, vector, update);
  const float* gate =
      a.gate ? a.gate + (a.gate_row ? a.gate_row[place.row] * a.gate_stride : 0) : nullptr;
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    const int at = (k * threads + place.lane) * 4;
    if (at >= dim) continue;
    float g[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    if (gate) load_some(gate, at, dim, vector, g);
    LT_UNROLL
    for (int c = 0; c < 4; ++c) v[k][c] = add_gated_of(v[k][c], g[c], update[k][c]);
    if (place.inside) store_some(residual, at, dim, vector, v[k]);
  }
  normalize<Y, threads>(v, place, a.norm, vector);
}

template <int threads, int vectors, int chunk>
__device__ __forceinline__ float sum_of_squares(const float (&v)[vectors][chunk], float* partial) {
  float square = 0.0f;
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    LT_UNROLL
    for (int c = 0; c < chunk; ++c) square = __fmaf_rn(v[k][c], v[k][c], square);
  }
  return row_sum<threads>(square, partial);
}

// Cosines and sines of the pairs of the chunk that starts at element `at` of its row.
template <int half>
__device__ __forceinline__ void load_angles(const RmsNormArgs& a, int64_t row, int at, bool vector,
                                            float (&c)[half], float (&s)[half]) {
  const float* cosine = a.cosine + row * a.angle_stride;
  const float* sine = a.sine + row * a.angle_stride;
  if (vector) {  // head_dim is a multiple of the chunk
    const int pair = at % a.head_dim / 2;
    load_table(cosine + pair, c);
    load_table(sine + pair, s);
    return;
  }
  LT_UNROLL
  for (int i = 0; i < half; ++i) {
    const int pair = (at + 2 * i) % a.head_dim / 2;
    c[i] = cosine[pair];
    s[i] = sine[pair];
  }
}

template <int chunk>
__device__ __forceinline__ void rotate(const float (&c)[chunk / 2], const float (&s)[chunk / 2],
                                       float (&v)[chunk]) {
  LT_UNROLL
  for (int i = 0; i < chunk / 2; ++i) {
    const float x = v[2 * i], y = v[2 * i + 1];
    v[2 * i] = __fmaf_rn(-y, s[i], __fmul_rn(x, c[i]));
    v[2 * i + 1] = __fmaf_rn(x, s[i], __fmul_rn(y, c[i]));
  }
}

// Calls f(at, v) for the chunks of a row that a thread holds and stores the results. Chunks beyond
// the end are computed as if they were the first, so that all loads of tables can be issued
// together: nothing branches around them when `vector` is a constant.
template <class Y, int threads, int vectors, int chunk, class F>
__device__ __forceinline__ void store_row(Y* y, int lane, int dim, bool vector,
                                          const float (&v)[vectors][chunk], F&& f) {
  LT_UNROLL
  for (int k = 0; k < vectors; ++k) {
    const int at = (k * threads + lane) * chunk;
    float out[chunk];
    f(at < dim ? at : 0, v[k], out);
    if (at < dim) store_some(y, at, dim, vector, out);
  }
}

// How a thread gets the angles of its chunks: they are the same for all of them when as many
// elements lie between two of its chunks as a head has, or a multiple.
enum class Angles { none, same, each };

template <Angles angles, class Y, int threads, int vectors, int chunk>
__device__ __forceinline__ void store_rms_norm(const RmsNormArgs& a, const Place<threads>& place,
                                               bool vector, float inverse,
                                               const float (&v)[vectors][chunk],
                                               float (&c)[chunk / 2], float (&s)[chunk / 2]) {
  store_row<Y, threads>(row_at<Y>(a.y, place.row), place.lane, a.dim, vector, v,
                        [&](int at, const float(&x)[chunk], float(&out)[chunk]) {
                          float weight[chunk];
                          load_some(a.weight, at, a.dim, vector, weight);
                          LT_UNROLL
                          for (int i = 0; i < chunk; ++i)
                            out[i] = __fmul_rn(__fmul_rn(x[i], inverse), weight[i]);
                          if (angles == Angles::each) load_angles(a, place.row, at, vector, c, s);
                          if (angles != Angles::none) rotate<chunk>(c, s, out);
                        });
}

template <class X, class Y, int threads, int vectors>
__global__ void __launch_bounds__(threads > 32 ? threads : 128, least_blocks(vectors))
    rms_norm_kernel(RmsNormArgs a, bool vector, Angles angles) {
  constexpr int kChunk = chunk_of<X, Y>();
  __shared__ float partial[kMostWarps];
  const Place<threads> place(a.rows);
  float v[vectors][kChunk], c[kChunk / 2], s[kChunk / 2];
  // Before the row: the compiler would let them wait for it, and both come from far away.
  if (angles == Angles::same) load_angles(a, place.row, place.lane * kChunk, true, c, s);
  load_row<X, threads>(row_at<X>(a.x, place.row), place.lane, a.dim, vector, v);
  const float mean_square = __fmul_rn(sum_of_squares<threads>(v, partial), a.inverse_dim);
  const float inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean_square, a.eps)));

  if (!place.inside) return;
  if (angles == Angles::same)
    store_rms_norm<Angles::same, Y>(a, place, true, inverse, v, c, s);
  else if (angles == Angles::none && vector)
    store_rms_norm<Angles::none, Y>(a, place, true, inverse, v, c, s);
  else if (angles == Angles::none)
    store_rms_norm<Angles::none, Y>(a, place, false, inverse, v, c, s);
  else
    store_rms_norm<Angles::each, Y>(a, place, vector, inverse, v, c, s);
}

template <bool activate, class Y, int threads, int vectors, int chunk>
__device__ __forceinline__ void store_channel_norm(const ChannelNormArgs& a,
                                                   const Place<threads>& place, bool vector,
                                                   float factor, const float (&v)[vectors][chunk]) {
  store_row<Y, threads>(row_at<Y>(a.y, place.row), place.lane, a.dim, vector, v,
                        [&](int at, const float(&x)[chunk], float(&out)[chunk]) {
                          float gamma[chunk];
                          load_some(a.gamma, at, a.dim, vector, gamma);
                          LT_UNROLL
                          for (int i = 0; i < chunk; ++i) {
                            const float y = __fmul_rn(__fmul_rn(x[i], factor), gamma[i]);
                            out[i] = activate ? silu_of(y) : y;
                          }
                        });
}

// A length of NaN stays one, so that the whole row shows it.
template <class X, class Y, int threads, int vectors>
__global__ void __launch_bounds__(threads > 32 ? threads : 128, least_blocks(vectors))
    channel_norm_kernel(ChannelNormArgs a, bool vector) {
  constexpr int kChunk = chunk_of<X, Y>();
  __shared__ float partial[kMostWarps];
  const Place<threads> place(a.rows);
  float v[vectors][kChunk];
  load_row<X, threads>(row_at<X>(a.x, place.row), place.lane, a.dim, vector, v);
  const float length = __fsqrt_rn(sum_of_squares<threads>(v, partial));
  const float factor = __fdiv_rn(a.root, length < 1e-12f ? 1e-12f : length);

  if (!place.inside) return;
  if (a.activate && vector)
    store_channel_norm<true, Y>(a, place, true, factor, v);
  else if (a.activate)
    store_channel_norm<true, Y>(a, place, false, factor, v);
  else
    store_channel_norm<false, Y>(a, place, vector, factor, v);
}

}  // namespace longtake::cuda
