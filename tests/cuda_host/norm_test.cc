// The CUDA normalisations on the host: all plans of rows, by whole chunks and one by one.
#include "tests/cuda_host/host_kernels.h"
#include "tests/cuda_host/norm_checks.h"

namespace longtake::testing {
namespace {

constexpr int64_t kDims[] = {1, 7, 12, 31, 32, 33, 96, 128, 384, 1000, 1536, 5120};
constexpr int64_t kRows[] = {1, 2, 5};
// One more of each of the plans that kDims leaves out.
constexpr int64_t kOtherDims[] = {192, 3000, 4096, 8192, 10001, 16384};

}  // namespace

TEST_CASE("cuda layer norm agrees with the oracle") {
  HostKernels k;
  for (const int64_t dim : kDims)
    for (const int64_t rows : kRows)
      for (const DType type : kComputeTypes)
        for (const Layout layout : kLayouts) {
          check_layer_norm(k, rows, dim, type, layout, 1, false);
          check_layer_norm(k, rows, dim, type, layout, 4, true);
        }
  for (const int64_t dim : kOtherDims)
    check_layer_norm(k, 2, dim, DType::f32, Layout::dense, 1, true);
}

TEST_CASE("cuda gated layer norm is the gated sum and its layer norm") {
  HostKernels k;
  for (const int64_t dim : kDims)
    for (const DType update : kComputeTypes)
      for (const DType y : kComputeTypes)
        for (const Layout layout : kLayouts)
          for (const int64_t gates : {0, 1, 4})
            check_gated_layer_norm(k, 5, dim, update, y, layout, gates);
  for (const int64_t dim : kOtherDims)
    check_gated_layer_norm(k, 2, dim, DType::bf16, DType::bf16, Layout::dense, 1);
}

TEST_CASE("cuda rms norm agrees with the oracle") {
  HostKernels k;
  for (const int64_t dim : kDims)
    for (const int64_t rows : kRows)
      for (const DType x : kComputeTypes)
        for (const DType y : kComputeTypes)
          for (const Layout layout : kLayouts) check_rms_norm(k, rows, dim, x, y, layout);
  for (const int64_t dim : kOtherDims) {
    check_rms_norm(k, 2, dim, DType::f32, DType::f32, Layout::dense);
    check_rms_norm(k, 2, dim, DType::bf16, DType::bf16, Layout::dense);
  }
}

TEST_CASE("cuda rms norm with rotation agrees with the oracle, also in place") {
  HostKernels k;
  const int64_t shapes[][2] = {{1, 2},  {5, 2},    {3, 12},   {2, 22},  {4, 24},
                               {2, 96}, {12, 128}, {1, 1536}, {40, 128}};
  for (const auto& [heads, head_dim] : shapes)
    for (const DType x : kComputeTypes)
      for (const DType y : kComputeTypes)
        for (const Layout layout : kLayouts) {
          check_rope(k, 5, heads, head_dim, x, y, layout, false);
          if (x == y) check_rope(k, 5, heads, head_dim, x, y, layout, true);
        }
}

TEST_CASE("cuda channel norm agrees with the oracle") {
  HostKernels k;
  for (const int64_t dim : kDims)
    for (const int64_t rows : {1, 5, 67})
      for (const DType x : kComputeTypes)
        for (const DType y : kComputeTypes)
          for (const bool activate : {false, true})
            if (rows < 67 || dim <= 384)
              check_channel_norm(k, rows, dim, x, y, rows == 5 ? Layout::shifted : Layout::dense,
                                 activate);
}

TEST_CASE("cuda channel norm: rows of zeros or of almost nothing; NaN fills its row alone") {
  HostKernels k;
  OwnedTensor x(DType::f32, {4, 2}), gamma(DType::f32, {2}), y(DType::f32, {4, 2});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float rows[] = {0, 0, 3e-13f, 4e-13f, 3e-10f, 4e-10f, 1, nan};
  std::copy(rows, rows + 8, x.as<float>());
  gamma.as<float>()[0] = gamma.as<float>()[1] = 1;

  k.channel_norm(x, gamma, false, y);

  // Lengths 0 and 5e-13 count as 1e-12, 5e-10 as itself.
  const double root = std::sqrt(2.0);
  const double expected[] = {0, 0, 0.3 * root, 0.4 * root, 0.6 * root, 0.8 * root};
  for (int i = 0; i < 6; ++i) CHECK(y.as<float>()[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  CHECK(std::isnan(y.as<float>()[6]));
  CHECK(std::isnan(y.as<float>()[7]));
}

TEST_CASE("cuda norms: memory that chunks do not fit gives the same bits") {
  HostKernels k;
  const int64_t dim = 1536;
  const OwnedTensor x = random_tensor({3, dim}, 1), one = random_tensor({1, dim}, 2);
  OwnedTensor wide(DType::f32, {3, dim + 8}), y(DType::bf16, {3, dim}), y2(DType::bf16, {3, dim});
  const Tensor shifted = wide.view().columns(3, 3 + dim);
  copy(x, shifted, test_stream());

  k.layer_norm(x, one, one, nullptr, true, 1e-6f, y);
  k.layer_norm(shifted, one, one, nullptr, true, 1e-6f, y2);

  CHECK(same_bits(y, y2));
}

TEST_CASE("cuda norms: rows that are too long are refused") {
  HostKernels k;
  OwnedTensor x(DType::f32, {1, 16385});

  CHECK_THROWS_AS(k.rms_norm(x, x, 1e-6f, {}, {}, 1, x), Error);
}

}  // namespace longtake::testing
