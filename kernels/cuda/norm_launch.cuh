// From arguments to kernels: element types, plan of the rows, and whether all of a call's memory
// can be read by whole chunks. `launch(kernel, blocks, threads, arguments...)` starts a kernel: on
// a GPU (norm.cu), or on the host in tests.
#pragma once

#include "kernels/cuda/norm_kernels.cuh"

namespace longtake::cuda {

// f(X{}) with the element type of the rows.
template <class F>
void with_element(DType dtype, F&& f) {
  if (dtype == DType::f32)
    f(float{});
  else
    f(bf16{});
}

inline bool aligned(const void* data, int64_t stride, int64_t element_bytes, int chunk) {
  const int64_t bytes = element_bytes * chunk < 16 ? element_bytes * chunk : 16;
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0 &&
         stride * element_bytes % bytes == 0;
}
template <class R>
bool aligned(const R& rows, int chunk) {
  return aligned(rows.data, rows.stride, rows.dtype == DType::f32 ? 4 : 2, chunk);
}

inline bool whole_chunks(const LayerNormArgs& a) {
  const Modulation& m = a.modulation;
  return a.dim % 4 == 0 && aligned(a.y, 4) && aligned(m.shift, m.stride, 4, 4) &&
         aligned(m.scale, m.stride, 4, 4);
}

template <class R>
unsigned blocks_of(int64_t rows, R plan) {
  return static_cast<unsigned>((rows + plan.rows_per_block() - 1) / plan.rows_per_block());
}

template <class Launch>
void launch_layer_norm(const LayerNormArgs& a, Launch launch) {
  const bool vector = whole_chunks(a) && aligned(a.x, 4);
  with_element(a.y.dtype, [&]<class Y>(Y) {
    with_row_plan<4>(a.dim, [&]<int threads, int vectors>() {
      constexpr RowPlan kPlan{threads, vectors};
      launch(layer_norm_kernel<Y, threads, vectors>, blocks_of(a.rows, kPlan), kPlan.block(), a,
             vector);
    });
  });
}

template <class Launch>
void launch_gated_layer_norm(const GatedLayerNormArgs& a, Launch launch) {
  const bool vector = whole_chunks(a.norm) && aligned(a.update, 4) && aligned(a.residual, 4) &&
                      (!a.gate || aligned(a.gate, a.gate_stride, 4, 4));
  with_element(a.update.dtype, [&]<class U>(U) {
    with_element(a.norm.y.dtype, [&]<class Y>(Y) {
      with_row_plan<4>(a.norm.dim, [&]<int threads, int vectors>() {
        constexpr RowPlan kPlan{threads, vectors};
        launch(gated_layer_norm_kernel<U, Y, threads, vectors>, blocks_of(a.norm.rows, kPlan),
               kPlan.block(), a, vector);
      });
    });
  });
}

template <class Launch>
void launch_rms_norm(const RmsNormArgs& a, Launch launch) {
  with_element(a.x.dtype, [&]<class X>(X) {
    with_element(a.y.dtype, [&]<class Y>(Y) {
      constexpr int kChunk = chunk_of<X, Y>();
      const bool angles = !a.cosine || (a.head_dim % kChunk == 0 &&
                                        aligned(a.cosine, a.angle_stride, 4, kChunk / 2) &&
                                        aligned(a.sine, a.angle_stride, 4, kChunk / 2));
      const bool vector = a.dim % kChunk == 0 && aligned(a.x, kChunk) && aligned(a.y, kChunk) &&
                          aligned(a.weight, 0, 4, kChunk) && angles;
      with_row_plan<kChunk>(a.dim, [&]<int threads, int vectors>() {
        constexpr RowPlan kPlan{threads, vectors};
        const bool same = vector && threads * kChunk % a.head_dim == 0;
        launch(rms_norm_kernel<X, Y, threads, vectors>, blocks_of(a.rows, kPlan), kPlan.block(), a,
               vector,
               !a.cosine ? Angles::none
               : same    ? Angles::same
                         : Angles::each);
      });
    });
  });
}

template <class Launch>
void launch_channel_norm(const ChannelNormArgs& a, Launch launch) {
  with_element(a.x.dtype, [&]<class X>(X) {
    with_element(a.y.dtype, [&]<class Y>(Y) {
      constexpr int kChunk = chunk_of<X, Y>();
      const bool vector = a.dim % kChunk == 0 && aligned(a.x, kChunk) && aligned(a.y, kChunk) &&
                          aligned(a.gamma, 0, 4, kChunk);
      with_row_plan<kChunk>(a.dim, [&]<int threads, int vectors>() {
        constexpr RowPlan kPlan{threads, vectors};
        launch(channel_norm_kernel<X, Y, threads, vectors>, blocks_of(a.rows, kPlan), kPlan.block(),
               a, vector);
      });
    });
  });
}

}  // namespace longtake::cuda
