// From arguments to point-wise kernels; see norm_launch.cuh for `launch`.
#pragma once

#include "kernels/cuda/elementwise_kernels.cuh"
#include "kernels/cuda/patch_kernels.cuh"
#include "kernels/cuda/relative_bias_kernel.cuh"

namespace longtake::cuda {

// Can chunks be moved whole: `data` and all of its rows lie at multiples of a chunk, or of 16
// bytes.
template <class T>
bool chunks_fit(const T* data, int64_t stride, int chunk) {
  const size_t bytes = sizeof(T) * static_cast<size_t>(chunk);
  const size_t unit = bytes < 16 ? bytes : 16;
  return reinterpret_cast<uintptr_t>(data) % unit == 0 &&
         static_cast<size_t>(stride) * sizeof(T) % unit == 0;
}

template <class Op, class Launch>
void launch_pointwise(const Op& op, int64_t rows, int64_t columns, bool vector, Launch launch) {
  constexpr int64_t kTile = int64_t{kPointThreads} * Op::kUnroll * Op::kChunk;
  const int64_t tiles = (columns + kTile - 1) / kTile;
  launch(pointwise_kernel<Op>, static_cast<unsigned>(rows * tiles), kPointThreads, op, columns,
         static_cast<unsigned>(tiles), vector);
}

template <class X, class Y, class Launch>
void launch_convert_of(const ConvertArgs& a, Launch launch) {
  using Op = Convert<X, Y>;
  const Op op{static_cast<const X*>(a.x), static_cast<Y*>(a.y)};
  const bool vector = chunks_fit(op.x, 0, Op::kChunk) && chunks_fit(op.y, 0, Op::kChunk);
  launch_pointwise(op, 1, a.n, vector, launch);
}

template <class Launch>
void launch_op(const ConvertArgs& a, Launch launch) {
  if (a.x_type == DType::f32)
    launch_convert_of<float, bf16>(a, launch);
  else if (a.x_type == DType::bf16)
    launch_convert_of<bf16, float>(a, launch);
  else if (a.y_type == DType::f32)
    launch_convert_of<f16, float>(a, launch);
  else
    launch_convert_of<f16, bf16>(a, launch);
}

template <class Launch>
void launch_op(const SiluArgs& a, Launch launch) {
  launch_pointwise(Silu{a.x, a.y}, 1, a.n, chunks_fit(a.x, 0, 4) && chunks_fit(a.y, 0, 4), launch);
}

template <class T, class Launch>
void launch_gated_gelu_of(const GatedGeluArgs& args, Launch launch) {
  using Op = GatedGelu<T>;
  const Op op{static_cast<const T*>(args.a), static_cast<const T*>(args.b),
              static_cast<T*>(args.y)};
  const bool vector = chunks_fit(op.a, 0, Op::kChunk) && chunks_fit(op.b, 0, Op::kChunk) &&
                      chunks_fit(op.y, 0, Op::kChunk);
  launch_pointwise(op, 1, args.n, vector, launch);
}

template <class Launch>
void launch_op(const GatedGeluArgs& a, Launch launch) {
  if (a.type == DType::f32)
    launch_gated_gelu_of<float>(a, launch);
  else
    launch_gated_gelu_of<bf16>(a, launch);
}

template <class Launch>
void launch_op(const AddRowsArgs& a, Launch launch) {
  const bool vector = chunks_fit(a.x, a.x_stride, 4) && chunks_fit(a.y, a.y_stride, 4) &&
                      chunks_fit(a.sum, a.sum_stride, 4);
  launch_pointwise(AddRows{a.x, a.x_stride, a.y, a.y_stride, a.sum, a.sum_stride}, a.rows,
                   a.columns, vector, launch);
}

template <int terms, class Launch>
void launch_combination_of(const LinearCombinationArgs& a, Launch launch) {
  LinearCombination<terms> op{};
  bool vector = chunks_fit(a.y, 0, 4);
  for (int k = 0; k < terms; ++k) {
    op.x[k] = a.x[k];
    op.weight[k] = a.weight[k];
    vector = vector && chunks_fit(a.x[k], 0, 4);
  }
  op.y = a.y;
  launch_pointwise(op, 1, a.n, vector, launch);
}

template <int terms = 1, class Launch>
void launch_op(const LinearCombinationArgs& a, Launch launch) {
  if (a.terms == terms)
    launch_combination_of<terms>(a, launch);
  else if constexpr (terms < kMostTerms)
    launch_op<terms + 1>(a, launch);
}

template <class T, class Launch>
void launch_add_gated_of(const AddGatedArgs& a, Launch launch) {
  const AddGated<T> op{static_cast<const T*>(a.update),
                       a.update_stride,
                       a.gate,
                       a.gate_stride,
                       a.gate_row,
                       a.residual,
                       a.residual_stride};
  const bool vector = chunks_fit(op.update, op.update_stride, 4) &&
                      (!op.gate || chunks_fit(op.gate, op.gate_stride, 4)) &&
                      chunks_fit(op.residual, op.residual_stride, 4);
  launch_pointwise(op, a.rows, a.columns, vector, launch);
}

template <class Launch>
void launch_op(const AddGatedArgs& a, Launch launch) {
  if (a.update_type == DType::f32)
    launch_add_gated_of<float>(a, launch);
  else
    launch_add_gated_of<bf16>(a, launch);
}

template <class T, int activation, class Launch>
void launch_bias_of(const BiasActivationArgs& a, Launch launch) {
  constexpr int kChunk = chunk_of<T, T>();
  constexpr int64_t kTile = int64_t{kBiasThreads} * kChunk;
  T* y = static_cast<T*>(a.y);
  const bool vector = chunks_fit(y, a.stride, kChunk) && (!a.bias || chunks_fit(a.bias, 0, kChunk));
  const int64_t tiles = (a.columns + kTile - 1) / kTile;
  const int64_t groups = (a.rows + kBiasRows - 1) / kBiasRows;
  launch(bias_activation_kernel<T, activation>, static_cast<unsigned>(groups * tiles), kBiasThreads,
         y, a.stride, a.bias, a.rows, a.columns, static_cast<unsigned>(tiles), vector);
}

template <class T, class Launch>
void launch_bias(const BiasActivationArgs& a, Launch launch) {
  if (a.activation == 1)
    launch_bias_of<T, 1>(a, launch);
  else if (a.activation == 2)
    launch_bias_of<T, 2>(a, launch);
  else
    launch_bias_of<T, 0>(a, launch);
}

template <class Launch>
void launch_op(const BiasActivationArgs& a, Launch launch) {
  if (a.type == DType::f32)
    launch_bias<float>(a, launch);
  else
    launch_bias<bf16>(a, launch);
}

template <class Bits, class Launch>
void launch_find(const NotFiniteArgs& a, Bits exponent, Launch launch) {
  constexpr int64_t kMostBlocks = 4096;  // each block walks on in steps of the grid
  const int64_t per_block = int64_t{kPointThreads} * 4 * 16 / static_cast<int64_t>(sizeof(Bits));
  const int64_t blocks = (a.n + per_block - 1) / per_block;
  launch(find_not_finite_kernel<Bits>,
         static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), kPointThreads,
         static_cast<const Bits*>(a.x), a.n, exponent, reinterpret_cast<uintptr_t>(a.x) % 16 == 0,
         a.flag);
}

template <class Launch>
void launch_op(const NotFiniteArgs& a, Launch launch) {
  if (a.type == DType::f32)
    launch_find<uint32_t>(a, 0x7f800000u, launch);
  else if (a.type == DType::bf16)
    launch_find<uint16_t>(a, uint16_t{0x7f80}, launch);
  else if (a.type == DType::f16)
    launch_find<uint16_t>(a, uint16_t{0x7c00}, launch);
  else
    launch_find<uint64_t>(a, uint64_t{0x7ff0000000000000u}, launch);
}

template <class Launch>
void launch_op(const RelativeBiasArgs& a, Launch launch) {
  const int64_t n = a.heads * a.tokens * a.tokens;
  launch(relative_bias_kernel,
         static_cast<unsigned>((n + kRelativeBiasThreads - 1) / kRelativeBiasThreads),
         kRelativeBiasThreads, a);
}

inline unsigned patch_blocks(const PatchArgs& a) {
  return static_cast<unsigned>((a.count() + kPatchThreads - 1) / kPatchThreads);
}
template <class Launch>
void launch_patchify(const PatchArgs& a, Launch launch) {
  launch(patchify_kernel, patch_blocks(a), kPatchThreads, a);
}
template <class Launch>
void launch_unpatchify(const PatchArgs& a, Launch launch) {
  launch(unpatchify_kernel, patch_blocks(a), kPatchThreads, a);
}

}  // namespace longtake::cuda
