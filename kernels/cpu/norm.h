// CPU drivers of kernels/norm.h: rows are cut into tasks and handed to the active instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"
#include "kernels/cpu/kernel_table.h"

namespace longtake::cpu {

inline RowType row_type(DType dtype) {
  return dtype == DType::f32 ? RowType::f32 : RowType::bf16;
}

// Calls body(begin, end) for consecutive ranges of `rows` rows of `dim` elements, on all threads.
template <class Body>
void parallel_rows(int64_t rows, int64_t dim, StreamRef stream, Body&& body) {
  constexpr int64_t kElements = 16384;  // a task of a few microseconds
  const int64_t chunk = std::max<int64_t>(1, kElements / std::max<int64_t>(1, dim));
  const int64_t tasks = (rows + chunk - 1) / chunk;
  stream.pool().parallel_for(
      tasks, [&](int64_t task, int) { body(task * chunk, std::min(rows, (task + 1) * chunk)); });
}

struct LayerNormArgs {
  ConstTensor x;
  Tensor y;
  const float* shift;
  const float* scale;
  int64_t modulation_stride;
  const int32_t* modulation_row;
  bool one_plus_scale;
  float eps;
};

void layer_norm(const LayerNormArgs& args, StreamRef stream);
void rms_norm(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine, ConstTensor sine,
              int64_t heads, Tensor y, StreamRef stream);
void channel_norm(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, StreamRef stream);

}  // namespace longtake::cpu
