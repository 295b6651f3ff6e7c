// The kernel that merges partial attention, on the host: the checks of the operator.
#include "tests/support/cuda_shim.h"
// The shim comes first.
#include <doctest/doctest.h>

#include "kernels/cuda/attention_merge_args.h"
#include "kernels/cuda/attention_merge_kernel.cuh"
#include "tests/cuda_host/host_kernels.h"
#include "tests/kernels/merge_problem.h"

namespace longtake::testing {
namespace {

// The operator's door has put the parts in order.
void merge(const AttentionMergeArgs& args) {
  cuda::launch_merge(cuda::view_of(args), HostLaunch{});
}

}  // namespace

TEST_CASE("cuda merge agrees with the oracle for all sizes, types and counts of parts") {
  check_merges(merge);
}

TEST_CASE("cuda merge copies a lonely part and gives 0 and -infinity without any") {
  check_lonely_parts(merge);
}

TEST_CASE("cuda merge passes on what is not a number, and needs no room for the logs") {
  for (const float wrong : {NAN, HUGE_VALF}) {
    MergeProblem p(2, 1, 8, 3, DType::f32);
    p.logs(1).as<float>()[1] = wrong;
    Merged got(p, DType::f32);
    merge({p.parts(), got.out, {}});
    CHECK(std::isnan(got.out.as<float>()[8]));
    CHECK(std::isfinite(got.out.as<float>()[0]));
  }
}

}  // namespace longtake::testing
