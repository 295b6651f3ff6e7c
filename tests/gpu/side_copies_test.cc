// Copies beside a GPU's work: the order that was asked for, seen in what memory holds. Work and
// copies take milliseconds, so that one which does not wait meets the other.
#include "kernels/cuda/side_copies.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "tests/gpu/gpu.h"

namespace longtake::testing {

namespace {

constexpr int64_t kNumbers = int64_t{32} << 20;  // 128 MiB
constexpr int kRounds = 20;                      // of copies on the device

OwnedTensor all(float value) {
  OwnedTensor out(DType::f32, {kNumbers});
  std::fill_n(out.as<float>(), kNumbers, value);
  return out;
}

bool holds_only(const OwnedTensor& x, float value) {
  return std::all_of(x.as<float>(), x.as<float>() + kNumbers, [=](float v) { return v == value; });
}

struct Queues {
  Gpu gpu;
  OwnedTensor one = gpu.up(all(1)), two = gpu.up(all(2));
  OwnedTensor place{DType::f32, {kNumbers}, gpu.stream().device()};
  std::unique_ptr<SideCopies> side = cuda::make_side_copies(gpu.queue());
  std::shared_ptr<DeviceMemory> memory = side->host_memory();
  OwnedTensor host{DType::f32, {kNumbers}, {DeviceType::cpu, 0, memory.get()}};

  // The last of many pieces of work writes `from`.
  void work(const OwnedTensor& first, const OwnedTensor& from) {
    for (int i = 0; i < kRounds; ++i) copy(first, place, gpu.stream());
    copy(from, place, gpu.stream());
  }
};

}  // namespace

TEST_CASE("gpu copies to the host come after the work before them, and later work after them") {
  Queues q;
  for (int round = 0; round < 3; ++round) {
    std::fill_n(q.host.as<float>(), kNumbers, 0.0f);
    q.work(q.two, q.one);
    q.side->wait_for_work();
    q.side->copy(q.place.view().data, q.host.view().data, q.host.bytes());
    q.side->mark(round);
    q.side->hold_work(round);
    q.work(q.two, q.two);
    q.side->finish();
    CHECK(holds_only(q.host, 1));
    CHECK(holds_only(q.gpu.down(q.place), 2));
  }
}

TEST_CASE("gpu work sees what was copied from the host before the mark it waits for") {
  Queues q;
  std::fill_n(q.host.as<float>(), kNumbers, 3.0f);
  OwnedTensor seen(DType::f32, {kNumbers}, q.gpu.stream().device());
  for (int round = 0; round < 3; ++round) {
    q.work(q.one, q.two);
    q.side->wait_for_work();
    q.side->copy(q.host.view().data, q.place.view().data, q.host.bytes());
    q.side->mark(0);
    q.side->hold_work(0);
    copy(q.place, seen, q.gpu.stream());
    CHECK(holds_only(q.gpu.down(seen), 3));
  }
}

}  // namespace longtake::testing
