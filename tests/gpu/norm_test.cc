// The normalisations on a GPU: the checks of tests/cuda_host, also at the sizes of models.
#include "tests/cuda_host/norm_checks.h"

#include "tests/gpu/gpu_kernels.h"

namespace longtake::testing {
namespace {

constexpr int64_t kDims[] = {1, 7, 12, 31, 32, 33, 96, 128, 384, 1000, 1536, 5120};
constexpr int64_t kOtherDims[] = {192, 3000, 4096, 8192, 10001, 16384};
constexpr int64_t kModelDims[] = {96, 384, 1536, 5120};
constexpr int64_t kManyRows = 1003;

}  // namespace

TEST_CASE("gpu layer norm agrees with the oracle") {
  GpuKernels k;
  for (const int64_t dim : kDims)
    for (const int64_t rows : {1, 2, 5})
      for (const DType type : kComputeTypes)
        for (const Layout layout : kLayouts) {
          check_layer_norm(k, rows, dim, type, layout, 1, false);
          check_layer_norm(k, rows, dim, type, layout, 4, true);
        }
  for (const int64_t dim : kOtherDims)
    check_layer_norm(k, 2, dim, DType::f32, Layout::dense, 1, true);
  for (const int64_t dim : kModelDims)
    check_layer_norm(k, kManyRows, dim, DType::bf16, Layout::dense, 3, true);
}

TEST_CASE("gpu gated layer norm is, bit by bit, the gated sum and its layer norm") {
  GpuKernels k;
  for (const int64_t dim : kDims)
    for (const DType update : kComputeTypes)
      for (const DType y : kComputeTypes)
        for (const Layout layout : kLayouts)
          for (const int64_t gates : {0, 1, 4})
            check_gated_layer_norm(k, 5, dim, update, y, layout, gates);
  for (const int64_t dim : kOtherDims)
    check_gated_layer_norm(k, 2, dim, DType::bf16, DType::bf16, Layout::dense, 1);
  for (const int64_t dim : kModelDims)
    check_gated_layer_norm(k, kManyRows, dim, DType::bf16, DType::bf16, Layout::dense, 3);
}

TEST_CASE("gpu rms norm agrees with the oracle") {
  GpuKernels k;
  for (const DType x : kComputeTypes)
    for (const DType y : kComputeTypes) {
      for (const int64_t dim : kDims)
        for (const int64_t rows : {1, 2, 5})
          for (const Layout layout : kLayouts) check_rms_norm(k, rows, dim, x, y, layout);
      for (const int64_t dim : kModelDims) check_rms_norm(k, kManyRows, dim, x, y, Layout::dense);
      for (const int64_t dim : kOtherDims) check_rms_norm(k, 2, dim, x, y, Layout::dense);
    }
}

TEST_CASE("gpu rms norm with rotation agrees with the oracle, also in place") {
  GpuKernels k;
  const int64_t shapes[][2] = {{1, 2},  {5, 2},    {3, 12},   {2, 22},  {4, 24},
                               {2, 96}, {12, 128}, {1, 1536}, {40, 128}};
  for (const auto& [heads, head_dim] : shapes)
    for (const DType x : kComputeTypes)
      for (const DType y : kComputeTypes)
        for (const Layout layout : kLayouts) {
          check_rope(k, 5, heads, head_dim, x, y, layout, false);
          if (x == y) check_rope(k, 5, heads, head_dim, x, y, layout, true);
        }
  for (const int64_t heads : {12, 40})
    check_rope(k, kManyRows, heads, 128, DType::bf16, DType::bf16, Layout::dense, true);
}

TEST_CASE("gpu channel norm agrees with the oracle") {
  GpuKernels k;
  for (const DType x : kComputeTypes)
    for (const DType y : kComputeTypes)
      for (const bool activate : {false, true}) {
        for (const int64_t dim : kDims)
          for (const int64_t rows : {1, 5, 67})
            check_channel_norm(k, rows, dim, x, y, rows == 5 ? Layout::shifted : Layout::dense,
                               activate);
        for (const int64_t dim : {96, 192, 384})
          check_channel_norm(k, 10001, dim, x, y, Layout::dense, activate);
      }
}

TEST_CASE("gpu norms give the same bits on every call") {
  GpuKernels k;
  const int64_t rows = 2000, dim = 1536;
  const OwnedTensor x = k.up(random_tensor({rows, dim}, 1)), one = k.up(random_tensor({1, dim}, 2));
  OwnedTensor first;
  for (int call = 0; call < 20; ++call) {
    OwnedTensor y = k.up(random_tensor({rows, dim}, 3, 1, DType::bf16));
    k.layer_norm(x, one, one, nullptr, true, 1e-6f, y);
    OwnedTensor now = k.down(y);
    if (call > 0)
      CHECK(same_bits(first, now));
    else
      first = std::move(now);
  }
}

}  // namespace longtake::testing
