// What the kernel of kernels/attention_merge.h is given, and its launcher.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

struct CUstream_st;

namespace longtake::cuda {

struct AttentionMergeView {
  static constexpr int kMostParts = 16;
  struct Part {
    const void* out;
    const float* lse;
    int64_t out_stride, lse_stride;
  };
  Part part[kMostParts];
  int parts;
  void* out;
  float* lse;  // may be null
  int64_t out_stride, lse_stride;
  int64_t queries, heads, head_dim;
  DType part_type, out_type;
};

void start(const AttentionMergeView& view, CUstream_st* stream);

}  // namespace longtake::cuda
