// cuDNN's attention against the oracle, within the bounds of our own (attention_problem.h). Where
// cuDNN is absent or declines, it must have a reason and must not have touched the results.
#include "kernels/cuda/dnn.h"

#include <doctest/doctest.h>

#include "tests/gpu/gpu.h"
#include "tests/kernels/attention_problem.h"

namespace longtake::testing {
namespace {

struct OnGpu {
  OwnedTensor q, k, v, out, lse;
  std::vector<KeySegment> segments;
  OnGpu(Gpu& gpu, const AttentionProblem& p)
      : q(gpu.up(p.q)),
        k(gpu.up(p.segments[0].k)),
        v(gpu.up(p.segments[0].v)),
        out(gpu.up(random_tensor(p.out_shape(), 50, 1, p.spec.dtype))),
        lse(gpu.up(random_tensor(p.lse_shape(), 51))) {
    segments.push_back({k, v, 0});
  }
  AttentionArgs args(const AttentionProblem& p, bool with_lse) {
    AttentionArgs a;
    a.q = q;
    a.segments = segments;
    a.out = out;
    a.scale = p.scale();
    if (with_lse) a.lse = lse;
    return a;
  }
};

// Did cuDNN do it?
bool check(Gpu& gpu, const AttentionSpec& spec, bool with_lse) {
  CAPTURE(spec.queries);
  CAPTURE(spec.keys());
  CAPTURE(spec.heads);
  CAPTURE(spec.dim);
  CAPTURE(with_lse);
  const AttentionProblem p(spec);
  OnGpu on(gpu, p);
  const OwnedTensor out_before = gpu.down(on.out), lse_before = gpu.down(on.lse);

  const bool done = gpu.queue().dnn().attention(on.args(p, with_lse));

  Answer got{gpu.down(on.out), gpu.down(on.lse)};
  if (!done) {
    CHECK(!gpu.queue().dnn().why_not().empty());
    CHECK(same_bits(got.out, out_before));
    CHECK(same_bits(got.lse, lse_before));
    MESSAGE("cuDNN declines: ", gpu.queue().dnn().why_not());
    return false;
  }
  const Expected expected = oracle(p);
  if (!with_lse) {
    CHECK(same_bits(got.lse, lse_before));
    for (int64_t i = 0; i < got.lse.numel(); ++i)
      got.lse.as<float>()[i] = static_cast<float>(expected.result.lse[static_cast<size_t>(i)]);
  }
  CHECK(worst(p, got, expected) < 1.0);
  // The plan is kept; a second run has the same bits.
  CHECK(gpu.queue().dnn().attention(on.args(p, with_lse)));
  CHECK(same_bits(got.out, gpu.down(on.out)));
  return true;
}

}  // namespace

TEST_CASE("gpu cudnn attention agrees with the oracle where cuDNN takes it") {
  Gpu gpu;
  int done = 0, asked = 0;
  for (const bool with_lse : {true, false})
    for (const int64_t dim : {64, 128})
      for (const int64_t queries : {1, 37, 128, 257})
        for (const int64_t keys : {1, 75, 128, 515}) {
          done += check(gpu, {DType::bf16, queries, 3, dim, {keys}}, with_lse);
          ++asked;
        }
  MESSAGE("cuDNN took ", done, " of ", asked, "; ", gpu.queue().dnn().why_not());
  CHECK((gpu.queue().dnn().available() || done == 0));
}

TEST_CASE("gpu cudnn attention declines what it is not asked for") {
  Gpu gpu;
  const auto declines = [&](const AttentionSpec& spec) {
    const AttentionProblem p(spec);
    OnGpu on(gpu, p);
    AttentionArgs args = on.args(p, true);
    if (spec.segments.size() > 1) on.segments.push_back(on.segments[0]);
    args.segments = on.segments;
    OwnedTensor bias;
    if (spec.bias) {
      bias = gpu.up(p.bias);
      args.bias = bias;
    }
    const OwnedTensor before = gpu.down(on.out);
    CHECK(!gpu.queue().dnn().attention(args));
    CHECK(!gpu.queue().dnn().why_not().empty());
    CHECK(same_bits(before, gpu.down(on.out)));
  };
  declines({DType::f32, 20, 2, 64, {30}});
  declines({DType::bf16, 20, 2, 60, {30}});
  declines({DType::bf16, 20, 2, 64, {30, 30}});
  declines(
      {.dtype = DType::bf16, .queries = 20, .heads = 2, .dim = 64, .segments = {30}, .bias = true});
}

}  // namespace longtake::testing
