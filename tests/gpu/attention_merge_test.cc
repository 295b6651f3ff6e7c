// Merging of partial attention on a GPU: the checks of the operator, and equal bits in any order.
#include "kernels/attention_merge.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/gpu/gpu.h"
#include "tests/kernels/merge_problem.h"

namespace longtake::testing {
namespace {

void merge(const AttentionMergeArgs& args) {
  Gpu gpu;
  std::vector<OwnedTensor> held;
  std::vector<AttentionPart> parts;
  for (const AttentionPart& p : args.parts) {
    held.push_back(gpu.up(p.out));
    held.push_back(gpu.up(p.lse));
    parts.push_back({held[held.size() - 2], held.back(), p.segment});
  }
  OwnedTensor out = gpu.up(args.out), lse = gpu.up(args.lse);
  merge_attention({parts, out, lse}, gpu.stream());
  copy(out, args.out, gpu.stream());
  copy(lse, args.lse, gpu.stream());
  gpu.stream().synchronize();
}

}  // namespace

TEST_CASE("gpu merge agrees with the oracle for all sizes, types and counts of parts") {
  check_merges(merge);
}

TEST_CASE("gpu merge copies a lonely part and gives 0 and -infinity without any") {
  check_lonely_parts(merge);
}

TEST_CASE("gpu merge gives the same bits in any order of arrival") {
  MergeProblem p(300, 12, 128, 5, DType::bf16);
  Merged first(p, DType::bf16), again(p, DType::bf16);
  std::vector<AttentionPart> parts = p.parts();
  merge({parts, first.out, first.lse});
  std::reverse(parts.begin(), parts.end());
  merge({parts, again.out, again.lse});
  CHECK(same_bits(again.out, first.out));
  CHECK(same_bits(again.lse, first.lse));
}

}  // namespace longtake::testing
