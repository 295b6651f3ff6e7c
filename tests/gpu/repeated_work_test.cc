// Work that becomes a CUDA graph: the same bits as the work itself, on what the memory holds then.
#include "kernels/repeated_work.h"

#include <doctest/doctest.h>

#include <cstring>

#include "kernels/linear.h"
#include "kernels/norm.h"
#include "tests/gpu/gpu.h"
#include "tests/support/random.h"

namespace longtake::testing {

namespace {

bool same_bits(const OwnedTensor& a, const OwnedTensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.view().data, b.view().data, a.bytes()) == 0;
}

}  // namespace

TEST_CASE("gpu work that repeats is replayed on new numbers with the same bits") {
  Gpu gpu;
  const StreamRef stream = gpu.stream();
  constexpr int64_t kRows = 130, kDim = 96;
  const Linear weight(random_tensor({kDim, kDim}, 1), {}, DType::f32, stream);
  const OwnedTensor gamma = gpu.up(random_tensor({kDim}, 2));
  OwnedTensor x = gpu.up(random_tensor({kRows, kDim}, 3)),
              y(DType::f32, {kRows, kDim}, stream.device());
  const auto work = [&](StreamRef s) {
    rms_norm(x, gamma, 1e-6f, y, s);
    linear({.x = y, .residual = x}, weight, s);
  };
  RepeatedWork repeated;
  for (uint64_t round = 0; round < 6; ++round) {
    const OwnedTensor numbers = random_tensor({kRows, kDim}, 10 + round);
    copy(numbers, x, stream);
    work(stream);
    const OwnedTensor expected = gpu.down(x);

    copy(numbers, x, stream);
    repeated.run({1}, stream, work);

    CHECK(same_bits(gpu.down(x), expected));
  }
  CHECK(repeated.replays() == 3);  // two are done themselves, the third is recorded
  repeated.run({2}, stream, work);
  CHECK(repeated.replays() == 3);
}

}  // namespace longtake::testing
