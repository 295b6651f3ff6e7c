// Point-wise operators on a GPU: the checks of tests/cuda_host, also at large sizes.
#include "tests/cuda_host/elementwise_checks.h"

#include "tests/gpu/gpu_kernels.h"

namespace longtake::testing {
namespace {

constexpr Part kParts[] = {{1, 0},    {3, 0},     {4, 0},     {31, 0},    {33, 1},     {1023, 0},
                           {1024, 0}, {16384, 0}, {16385, 3}, {65536, 0}, {5000003, 0}};

}  // namespace

TEST_CASE("gpu convert is exact but for one rounding") {
  GpuKernels k;
  for (const Part part : kParts) {
    check_convert(k, DType::f32, DType::bf16, part);
    check_convert(k, DType::bf16, DType::f32, part);
    check_convert(k, DType::f16, DType::f32, part);
    check_convert(k, DType::f16, DType::bf16, part);
  }
  const OwnedTensor x = k.up(random_tensor({1001}, 1));
  OwnedTensor y = k.up(random_tensor({1001}, 2));
  k.convert(x, y);
  CHECK(same_bits(k.down(x), k.down(y)));
}

TEST_CASE("gpu silu and gated gelu agree with the oracle from one end of f32 to the other") {
  GpuKernels k;
  for (const Part part : kParts)
    for (const float scale : {8.0f, 120.0f}) {
      check_silu(k, part, scale);
      for (const DType type : kComputeTypes) check_gated_gelu(k, type, part, scale);
    }
}

TEST_CASE("gpu add is the exact f32 sum; linear combinations agree with the oracle") {
  GpuKernels k;
  for (const Part part : kParts) {
    check_add(k, part);
    for (size_t terms = 1; terms <= 8; ++terms)
      if (part.n < 1000000 || terms == 3) check_combination(k, terms, part);
  }
}

TEST_CASE("gpu all_finite sees one NaN or infinity at any place") {
  GpuKernels k;
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f64})
    for (const Part part : {Part{1, 0}, Part{5, 1}, Part{33, 0}, Part{40001, 3}, Part{20000003, 0}})
      check_all_finite(k, type, part);
  OwnedTensor whole(DType::i32, {3});
  for (int i = 0; i < 3; ++i) whole.as<int32_t>()[i] = -1;
  CHECK(k.all_finite(k.up(whole)));
}

TEST_CASE("gpu add_rows adds a table to every row") {
  GpuKernels k;
  for (const int64_t dim : {1, 7, 33, 384, 1536, 5120})
    for (const int64_t rows : {1, 2, 5, 301})
      for (const Layout layout : kLayouts) check_add_rows(k, rows, dim, layout);
}

TEST_CASE("gpu bias and activation agree with the oracle") {
  GpuKernels k;
  for (const int64_t dim : {1, 7, 31, 33, 384, 1000, 5120, 8960})
    for (const DType type : kComputeTypes)
      for (const Layout layout : kLayouts)
        for (const int activation : {0, 1, 2})
          check_bias_activation(k, dim > 5120 ? 1003 : 5, dim, type, layout, activation,
                                activation > 0 || dim > 7);
}

TEST_CASE("gpu relative bias takes the bucket of each distance") {
  GpuKernels k;
  for (const int64_t tokens : {1, 2, 7, 33})
    for (const int64_t heads : {1, 5, 64}) check_relative_bias(k, heads, tokens);
}

TEST_CASE("gpu patches are those of the definition, there and back") {
  GpuKernels k;
  check_patches(k, {{1, 2, 2}, 3, 4, 5}, 16);
  check_patches(k, {{2, 3, 1}, 2, 3, 4}, 3);
  check_patches(k, {{1, 1, 1}, 1, 1, 1}, 1);
  check_patches(k, {{1, 2, 2}, 21, 30, 52}, 16);
}

}  // namespace longtake::testing
