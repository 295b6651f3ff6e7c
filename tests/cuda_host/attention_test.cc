// The plain CUDA attention on the host, where the tree has it.
#if __has_include("kernels/cuda/attention_plain.cuh")
#include "tests/support/cuda_shim.h"
// The shim comes first.
#include <doctest/doctest.h>

#include "kernels/cuda/attention_plain.cuh"
#include "tests/kernels/attention_problem.h"

namespace longtake::testing {
namespace {

cuda::AttentionParams params_of(const AttentionProblem& problem, OwnedTensor& out,
                                OwnedTensor& lse) {
  cuda::AttentionParams p;
  p.q = problem.q.data;
  p.q_stride = problem.q.row_stride;
  p.out = out.view().data;
  p.out_stride = problem.spec.heads * problem.spec.dim;
  p.lse = lse.as<float>();
  p.lse_stride = problem.spec.queries;
  if (problem.spec.bias) p.bias = problem.bias.as<float>();
  p.bias_stride = problem.spec.queries * problem.spec.keys();
  p.queries = static_cast<int>(problem.spec.queries);
  p.heads = static_cast<int>(problem.spec.heads);
  p.head_dim = static_cast<int>(problem.spec.dim);
  p.scale = problem.scale();
  for (const KeySegment& s : problem.segments) {
    p.segment[p.segments.count] = {s.k.data, s.v.data, s.k.row_stride, s.v.row_stride,
                                   s.logit_bias};
    const int keys = p.segments.keys();
    p.segments.begin[++p.segments.count] = keys + static_cast<int>(s.k.dim(0));
  }
  return p;
}

template <class T, int kGroups>
void run_plain(const cuda::AttentionParams& p) {
  using Shared = cuda::plain::Shared<T, kGroups>;
  const auto tiles = static_cast<unsigned>(cuda::tiles_of(p.queries, cuda::plain::kRows));
  run_on_host({tiles, static_cast<unsigned>(p.heads), 1}, {cuda::plain::kThreads, 1, 1},
              sizeof(Shared), [&] {
                cuda::plain::attention<T, kGroups>(p,
                                                   *static_cast<Shared*>(dynamic_shared_memory()));
              });
}

void check_plain(const AttentionSpec& spec) {
  CAPTURE(name(spec.dtype));
  CAPTURE(spec.queries);
  CAPTURE(spec.keys());
  CAPTURE(spec.dim);
  const AttentionProblem problem(spec);
  Answer got{OwnedTensor(spec.dtype, problem.out_shape()),
             OwnedTensor(DType::f32, problem.lse_shape())};
  std::memset(got.out.view().data, 0xff, got.out.bytes());
  std::memset(got.lse.view().data, 0xff, got.lse.bytes());

  const cuda::AttentionParams p = params_of(problem, got.out, got.lse);
  if (spec.dtype == DType::f32)
    spec.dim <= 64 ? run_plain<float, 1>(p) : run_plain<float, 2>(p);
  else
    spec.dim <= 64 ? run_plain<cuda::plain::Half, 1>(p) : run_plain<cuda::plain::Half, 2>(p);

  CHECK(worst(problem, got, oracle(problem)) < 1.0);
}

}  // namespace

TEST_CASE("plain cuda attention agrees with the oracle") {
  for (const DType type : kComputeTypes) {
    check_plain({.dtype = type});
    check_plain({.dtype = type, .queries = 65, .heads = 2, .dim = 12, .segments = {63, 2, 130}});
    check_plain({.dtype = type, .queries = 130, .heads = 1, .dim = 64, .segments = {128}});
    check_plain({.dtype = type, .queries = 3, .heads = 3, .dim = 128, .segments = {200, 1}});
    check_plain({.dtype = type,
                 .queries = 70,
                 .heads = 2,
                 .dim = 33,
                 .segments = {40, 50},
                 .logit_bias = {0.5f, -1.0f},
                 .bias = true});
  }
}

}  // namespace longtake::testing
#endif
