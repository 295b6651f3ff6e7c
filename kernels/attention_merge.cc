#include "kernels/attention_merge.h"

#include <algorithm>
#include <array>

#include "kernels/base/error.h"
#include "kernels/cpu/attention_merge.h"
#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/range.h"

namespace longtake {

namespace {

bool floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16;
}

void check(const char* what, const ConstTensor& x, const Shape& shape) {
  LT_CHECK(x.shape == shape, "merge_attention {}: expected {}, found {}", what, shape.text(),
           x.shape.text());
  LT_CHECK(x.dim(0) <= 1 || x.row_stride >= shape.inner_numel(),
           "merge_attention {}: expected a row stride of at least {}, found {}", what,
           shape.inner_numel(), x.row_stride);
  LT_CHECK(x || x.numel() == 0, "merge_attention {}: expected data for {}, found none", what,
           shape.text());
}

void check_lse(const char* what, const ConstTensor& lse, const ConstTensor& out) {
  check(what, lse, {out.dim(1), out.dim(0)});
  LT_CHECK(lse.dtype == DType::f32, "merge_attention {}: expected f32, found {}", what,
           name(lse.dtype));
}

void check(const AttentionMergeArgs& a) {
  const ConstTensor out = a.out;
  LT_CHECK(out.rank() == 3 && out.dim(1) > 0 && out.dim(2) > 0 && floating(out.dtype),
           "merge_attention out: expected f32 or bf16 [queries, heads, head_dim], found {} {}",
           name(out.dtype), out.shape.text());
  check("out", out, out.shape);
  if (a.lse) check_lse("lse", a.lse, out);
  LT_CHECK(!a.parts.empty() && a.parts.size() <= AttentionMergeArgs::kMostParts,
           "merge_attention: expected 1 to {} parts, found {}", AttentionMergeArgs::kMostParts,
           a.parts.size());
  const DType dtype = a.parts.front().out.dtype;
  for (const AttentionPart& part : a.parts) {
    check("part", part.out, out.shape);
    check_lse("part's lse", part.lse, out);
    LT_CHECK(floating(part.out.dtype) && part.out.dtype == dtype,
             "merge_attention: expected parts all f32 or all bf16, found {} and {}", name(dtype),
             name(part.out.dtype));
  }
}

}  // namespace

void merge_attention(const AttentionMergeArgs& args, StreamRef stream) {
  check(args);
  std::array<AttentionPart, AttentionMergeArgs::kMostParts> ordered;
  const std::span parts(ordered.data(), args.parts.size());
  std::copy(args.parts.begin(), args.parts.end(), parts.begin());
  const auto before = [](const auto& a, const auto& b) { return a.segment < b.segment; };
  std::sort(parts.begin(), parts.end(), before);
  for (size_t i = 1; i < parts.size(); ++i)
    LT_CHECK(before(parts[i - 1], parts[i]),
             "merge_attention: expected each segment once, found {} twice", parts[i].segment);
  if (args.out.dim(0) == 0) return;
  const AttentionMergeArgs sorted{parts, args.out, args.lse};
  if (!stream.on_gpu()) return cpu::merge_attention(sorted, stream);
  const cuda::Range range("merge_attention");
  cuda::merge_attention(sorted, stream.cuda());
}

}  // namespace longtake
