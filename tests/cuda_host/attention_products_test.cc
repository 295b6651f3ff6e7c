// The kernels between the products of kernels/cuda/attention_products.cc on the host.
#include "tests/cuda_host/host_kernels.h"
// The shim comes first.
#include <doctest/doctest.h>

#include <limits>

#include "kernels/cuda/attention_products.cuh"
#include "tests/kernels/rows.h"

namespace longtake::testing {
namespace {

constexpr int64_t kRows = 3;
constexpr float kScale = 0.75f, kInfinity = std::numeric_limits<float>::infinity();

struct Softmax {
  OwnedTensor weights;  // [kRows, pitch]
  OwnedTensor lse;
};

int64_t pitch_of(int64_t keys) {
  return (keys + 7) / 8 * 8;
}

OwnedTensor logits_of(int64_t keys) {
  OwnedTensor x = random_tensor({kRows, pitch_of(keys)}, 5, 8.0f);
  for (int64_t row = 0; row < kRows; ++row)  // behind the keys: not to be read
    for (int64_t i = keys; i < x.dim(1); ++i) x.as<float>()[row * x.dim(1) + i] = std::nanf("");
  return x;
}

Softmax softmax(const OwnedTensor& logits, int64_t keys, DType type) {
  Softmax s{OwnedTensor(type, logits.shape()), OwnedTensor(DType::f32, {kRows})};
  std::memset(s.weights.view().data, 0xff, s.weights.bytes());
  std::memset(s.lse.view().data, 0xff, s.lse.bytes());
  cuda::products::launch_softmax(
      cuda::SoftmaxRowsArgs{logits.as<float>(), s.weights.view().data, s.lse.as<float>(), kRows,
                            keys, logits.dim(1), kScale},
      type, HostLaunch{});
  return s;
}

// Of the scaled logits: a rounding each of the product and of the difference from the largest, two
// units of the exponential, and the roundings of the sum, of the division and of the product.
void check_softmax(int64_t keys, DType type) {
  CAPTURE(keys);
  CAPTURE(name(type));
  const OwnedTensor logits = logits_of(keys);
  const Softmax got = softmax(logits, keys, type);
  const double roundings = static_cast<double>(keys / 256 + 1) + 5 + 8;
  for (int64_t row = 0; row < kRows; ++row) {
    double top = -HUGE_VAL, largest = 0, sum = 0;
    const auto logit = [&](int64_t i) { return kScale * element(logits, row, i); };
    for (int64_t i = 0; i < keys; ++i) {
      top = std::max(top, logit(i));
      largest = std::max(largest, std::abs(logit(i)));
    }
    for (int64_t i = 0; i < keys; ++i) sum += std::exp(logit(i) - top);
    const double relative = kUnit32 * (2 * 3 * largest + 4 + roundings + 2);
    double worst = 0;
    for (int64_t i = 0; i < logits.dim(1); ++i) {
      const double expected = i < keys ? std::exp(logit(i) - top) / sum : 0.0;
      const double bound = expected * (relative + (type == DType::bf16 ? 0x1p-8 : 0.0)) + 1e-38;
      const double off = std::abs(element(got.weights, row, i) - expected) / bound;
      worst = std::max(worst, std::isnan(off) ? HUGE_VAL : off);
    }
    CHECK(worst < 1.0);
    const double lse = top + std::log(sum);
    CHECK(std::abs(got.lse.as<float>()[row] - lse) <
          relative + 2 * kUnit32 * (std::abs(lse) + std::log(sum)));
  }
}

void check_transpose(int64_t rows, int64_t columns, int64_t stride, DType type) {
  CAPTURE(rows);
  CAPTURE(columns);
  CAPTURE(name(type));
  const int64_t pitch = pitch_of(rows);
  const OwnedTensor x = random_tensor({rows, stride}, 1, 1, type);
  OwnedTensor y(type, {columns + 1, pitch});
  std::memset(y.view().data, 0xff, y.bytes());
  cuda::products::launch_transpose(
      cuda::TransposeArgs{x.view().data, y.view().data, rows, columns, stride, pitch}, type,
      HostLaunch{});
  int64_t wrong = 0;
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < pitch; ++r)
      wrong += element(y, c, r) != (r < rows ? element(x, r, c) : 0.0);
  for (int64_t r = 0; r < pitch; ++r) wrong += !std::isnan(element(y, columns, r));
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("cuda softmax of rows agrees with the oracle") {
  for (const DType type : kComputeTypes)
    for (const int64_t keys : {1, 7, 8, 31, 32, 33, 255, 256, 257, 300, 1000})
      check_softmax(keys, type);
}

TEST_CASE("cuda softmax of rows may overwrite the logits") {
  for (const int64_t keys : {5, 300}) {
    OwnedTensor logits = logits_of(keys);
    const Softmax apart = softmax(logits, keys, DType::f32);
    cuda::products::launch_softmax(
        cuda::SoftmaxRowsArgs{logits.as<float>(), logits.as<float>(), nullptr, kRows, keys,
                              logits.dim(1), kScale},
        DType::f32, HostLaunch{});
    CHECK(same_bits(apart.weights, logits));
  }
}

TEST_CASE("cuda softmax of rows: keys that are not seen, and NaN") {
  constexpr int64_t kKeys = 40;
  OwnedTensor logits = logits_of(kKeys);
  for (int64_t i = 0; i < kKeys; ++i) logits.as<float>()[i] = -kInfinity;  // row 0: all of them
  logits.as<float>()[logits.dim(1) + 3] = -kInfinity;
  logits.as<float>()[2 * logits.dim(1) + 3] = std::nanf("");
  for (const DType type : kComputeTypes) {
    const Softmax got = softmax(logits, kKeys, type);
    CHECK(got.lse.as<float>()[0] == -kInfinity);
    CHECK(element(got.weights, 0, 7) == 0.0);
    CHECK(element(got.weights, 1, 3) == 0.0);
    CHECK(element(got.weights, 1, 4) > 0.0);
    CHECK(std::isnan(element(got.weights, 2, 0)));
    CHECK(std::isnan(got.lse.as<float>()[2]));
    double sum = 0;
    for (int64_t i = 0; i < kKeys; ++i) sum += element(got.weights, 1, i);
    CHECK(std::abs(sum - 1) < (type == DType::bf16 ? 0x1p-8 : 100 * kUnit32));
  }
}

TEST_CASE("cuda transposition, with zeros behind the rows") {
  for (const int64_t rows : {1, 7, 31, 32, 33, 129})
    for (const int64_t columns : {1, 32, 40, 513}) {
      check_transpose(rows, columns, columns + 3, DType::f32);
      check_transpose(rows, columns, columns, DType::bf16);
    }
}

}  // namespace longtake::testing
