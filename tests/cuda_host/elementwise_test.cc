// The point-wise CUDA kernels on the host. Sizes go around chunks, warps and the tiles of blocks.
#include "tests/cuda_host/elementwise_checks.h"
#include "tests/cuda_host/host_kernels.h"

namespace longtake::testing {
namespace {

constexpr Part kParts[] = {{1, 0},    {3, 0},    {4, 0},    {31, 0},    {33, 1},   {1023, 0},
                           {1024, 0}, {4096, 0}, {4097, 0}, {16384, 0}, {16385, 3}};

}  // namespace

TEST_CASE("cuda convert is exact but for one rounding") {
  HostKernels k;
  for (const Part part : kParts) {
    check_convert(k, DType::f32, DType::bf16, part);
    check_convert(k, DType::bf16, DType::f32, part);
    check_convert(k, DType::f16, DType::f32, part);
    check_convert(k, DType::f16, DType::bf16, part);
  }
  check_convert(k, DType::f16, DType::f32, {65536, 0});  // all there are
  check_convert(k, DType::bf16, DType::f32, {65536, 0});
}

TEST_CASE("cuda silu and gated gelu agree with the oracle from one end of f32 to the other") {
  HostKernels k;
  for (const Part part : kParts)
    for (const float scale : {8.0f, 120.0f}) {
      check_silu(k, part, scale);
      for (const DType type : kComputeTypes) check_gated_gelu(k, type, part, scale);
    }
}

TEST_CASE("cuda add is the exact f32 sum; linear combinations agree with the oracle") {
  HostKernels k;
  for (const Part part : kParts) {
    check_add(k, part);
    for (size_t terms = 1; terms <= 8; ++terms) check_combination(k, terms, part);
  }
}

TEST_CASE("cuda all_finite sees one NaN or infinity at any place") {
  HostKernels k;
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f64})
    for (const Part part : {Part{1, 0}, Part{5, 1}, Part{33, 0}, Part{16385, 0}, Part{40001, 3}})
      check_all_finite(k, type, part);
}

TEST_CASE("cuda add_rows adds a table to every row") {
  HostKernels k;
  for (const int64_t dim : {1, 7, 33, 384, 1536, 5120})
    for (const int64_t rows : {1, 2, 5})
      for (const Layout layout : kLayouts) check_add_rows(k, rows, dim, layout);
}

TEST_CASE("cuda bias and activation agree with the oracle") {
  HostKernels k;
  for (const int64_t dim : {1, 7, 31, 33, 384, 1000, 5120})
    for (const DType type : kComputeTypes)
      for (const Layout layout : kLayouts)
        for (const int activation : {0, 1, 2})
          check_bias_activation(k, 5, dim, type, layout, activation, activation > 0 || dim > 7);
}

TEST_CASE("cuda relative bias takes the bucket of each distance") {
  HostKernels k;
  for (const int64_t tokens : {1, 2, 7, 33})
    for (const int64_t heads : {1, 5, 64}) check_relative_bias(k, heads, tokens);
}

TEST_CASE("cuda patches are those of the definition, there and back") {
  HostKernels k;
  check_patches(k, {{1, 2, 2}, 3, 4, 5}, 16);
  check_patches(k, {{2, 3, 1}, 2, 3, 4}, 3);
  check_patches(k, {{1, 1, 1}, 1, 1, 1}, 1);
}

}  // namespace longtake::testing
