// The shim that the other tests of this folder rest on.
#include "tests/support/cuda_shim.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/support/expect_error.h"

namespace longtake::testing {
namespace {

constexpr uint32_t kAll = 0xffffffffu;

template <class Kernel>
void run(unsigned grid, unsigned block, Kernel kernel, size_t shared_bytes = 0) {
  run_on_host({grid, 1, 1}, {block, 1, 1}, shared_bytes, kernel);
}

}  // namespace

TEST_CASE("cuda shim: every thread of every block runs once and knows its place") {
  std::vector<int> seen(3 * 2 * 40);

  run_on_host({3, 2, 1}, {8, 5, 1}, 0, [&] {
    CHECK(blockDim.x == 8);
    CHECK(gridDim.y == 2);
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x;
    ++seen[block * 40 + threadIdx.y * blockDim.x + threadIdx.x];
  });

  for (const int n : seen) CHECK(n == 1);
}

TEST_CASE("cuda shim: a barrier parts what is before from what is after") {
  std::vector<int> order;

  run(2, 70, [&] {
    order.push_back(0);
    __syncthreads();
    order.push_back(1);
    __syncthreads();
    order.push_back(2);
  });

  REQUIRE(order.size() == 2 * 3 * 70);
  for (size_t i = 0; i < order.size(); ++i) CHECK(order[i] == static_cast<int>(i / 70 % 3));
}

TEST_CASE("cuda shim: shuffles give each lane the value of the right lane") {
  std::vector<int> exclusive(64), down(64), up(64), one(64), parts(64);

  run(1, 64, [&] {
    const int t = static_cast<int>(threadIdx.x);
    const auto at = static_cast<size_t>(t);
    exclusive[at] = __shfl_xor_sync(kAll, t, 5);
    down[at] = __shfl_down_sync(kAll, t, 3);
    up[at] = __shfl_up_sync(kAll, t, 2);
    one[at] = __shfl_sync(kAll, t, 7);
    parts[at] = __shfl_xor_sync(kAll, t, 2, 4) * 100 + __shfl_down_sync(kAll, t, 1, 8);
  });

  for (int t = 0; t < 64; ++t) {
    const auto at = static_cast<size_t>(t);
    CHECK(exclusive[at] == (t ^ 5));
    CHECK(down[at] == (t % 32 + 3 < 32 ? t + 3 : t));
    CHECK(up[at] == (t % 32 >= 2 ? t - 2 : t));
    CHECK(one[at] == t / 32 * 32 + 7);
    CHECK(parts[at] == (t ^ 2) * 100 + (t % 8 < 7 ? t + 1 : t));
  }
}

TEST_CASE("cuda shim: votes, and warps whose halves do different things") {
  std::vector<uint32_t> votes(32);
  std::vector<int> sums(32);

  run(1, 32, [&] {
    const int t = static_cast<int>(threadIdx.x);
    const auto at = static_cast<size_t>(t);
    votes[at] = __ballot_sync(kAll, t % 3 == 0);
    CHECK(__any_sync(kAll, t == 31));
    CHECK_FALSE(__all_sync(kAll, t != 31));
    __syncwarp();
    sums[at] = t < 16 ? __shfl_xor_sync(0xffffu, t, 1) : __shfl_xor_sync(0xffff0000u, t, 2);
  });

  for (int t = 0; t < 32; ++t) {
    CHECK(votes[static_cast<size_t>(t)] == 0x49249249u);
    CHECK(sums[static_cast<size_t>(t)] == (t < 16 ? t ^ 1 : t ^ 2));
  }
}

TEST_CASE("cuda shim: dynamic shared memory is one per block") {
  int total = 0;

  run(
      2, 33,
      [&] {
        int* shared = static_cast<int*>(dynamic_shared_memory());
        shared[threadIdx.x] = static_cast<int>(threadIdx.x);
        __syncthreads();
        if (threadIdx.x == 0)
          for (int i = 0; i < 33; ++i) total += shared[i];
      },
      33 * sizeof(int));

  CHECK(total == 2 * 33 * 32 / 2);
}

TEST_CASE("cuda shim: a barrier that one thread does not reach is found") {
  const Error ended = error_of([] {
    run(4, 64, [] {
      if (blockIdx.x == 2 && threadIdx.x == 40) return;
      __syncthreads();
    });
  });
  CHECK(mentions(ended, "block (2, 0, 0)"));
  CHECK(mentions(ended, "thread (40, 0, 0) has ended"));
  CHECK(mentions(ended, "thread (0, 0, 0) waits at a barrier"));
}

TEST_CASE("cuda shim: a shuffle that one lane does not reach is found") {
  const Error error = error_of([] {
    run(1, 64, [] {
      if (threadIdx.x == 33)
        __syncthreads();
      else
        (void)__shfl_xor_sync(kAll, 1.0f, 1);
    });
  });
  CHECK(mentions(error, "thread (33, 0, 0) waits at a barrier"));

  // Afterwards the shim works again.
  int count = 0;
  run(1, 64, [&] {
    __syncthreads();
    ++count;
  });
  CHECK(count == 64);
}

TEST_CASE("cuda shim: a mask that names lanes which the block has not is found") {
  const Error error = error_of([] { run(1, 20, [] { (void)__shfl_xor_sync(kAll, 1, 1); }); });
  CHECK(mentions(error, "waits for lanes of its warp"));
}

}  // namespace longtake::testing
