// kernels/attention_merge.h in the kernel's words.
#pragma once

#include "kernels/attention_merge.h"
#include "kernels/cuda/attention_merge_view.h"

namespace longtake::cuda {

inline AttentionMergeView view_of(const AttentionMergeArgs& a) {
  static_assert(AttentionMergeView::kMostParts == AttentionMergeArgs::kMostParts);
  AttentionMergeView v{};
  for (const AttentionPart& p : a.parts)
    v.part[v.parts++] = {p.out.data, p.lse.as<float>(), p.out.row_stride, p.lse.row_stride};
  v.out = a.out.data, v.out_stride = a.out.row_stride;
  v.lse = static_cast<float*>(a.lse.data), v.lse_stride = a.lse.row_stride;
  v.queries = a.out.dim(0), v.heads = a.out.dim(1), v.head_dim = a.out.dim(2);
  v.part_type = a.parts.front().out.dtype, v.out_type = a.out.dtype;
  return v;
}

}  // namespace longtake::cuda
