// The thread pool: every task once, errors reach the caller, scratch memory.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"

namespace longtake::testing {

TEST_CASE("every task runs exactly once, on a worker of the pool") {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const int64_t tasks : {0, 1, 2, 3, 100, 10007}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::atomic<bool> bad_worker{false};

      pool.parallel_for(tasks, [&](int64_t task, int worker) {
        ++runs[static_cast<size_t>(task)];
        if (worker < 0 || worker >= threads) bad_worker = true;
      });

      CHECK_FALSE(bad_worker);
      for (const auto& n : runs) REQUIRE(n == 1);
    }
  }
}

TEST_CASE("a task's writes are seen after the call") {
  ThreadPool pool(3);
  std::vector<int64_t> plain(64);
  for (int64_t call = 1; call <= 100000; ++call) {
    pool.parallel_for(64, [&](int64_t task, int) { plain[static_cast<size_t>(task)] += call; });
    REQUIRE(plain[static_cast<size_t>(call % 64)] == call * (call + 1) / 2);
  }
}

TEST_CASE("calls after idle times find sleeping workers") {
  ThreadPool pool(2);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int64_t> sum{0};
    pool.parallel_for(10, [&](int64_t task, int) { sum += task; });
    CHECK(sum == 45);
  }
}

TEST_CASE("workers share the tasks when these take time") {
  ThreadPool pool(3);
  std::atomic<int> inside{0}, most{0};

  pool.parallel_for(3, [&](int64_t, int) {
    const int now = ++inside;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    // Until all are here: fails by the clock only if the pool runs tasks one after the other.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (inside < 3 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  });

  CHECK(most == 3);
}

TEST_CASE("fewer tasks than threads, call after call") {
  ThreadPool pool(8);
  for (int i = 0; i < 20000; ++i) {
    std::atomic<int> runs{0};
    pool.parallel_for(2, [&](int64_t, int) { ++runs; });
    REQUIRE(runs == 2);
  }
}

TEST_CASE("the first error reaches the caller; the pool goes on working") {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      const int64_t bad = round % 50;
      try {
        pool.parallel_for(50, [&](int64_t task, int) {
          if (task == bad) throw std::runtime_error("task " + std::to_string(task));
        });
        FAIL("nothing thrown");
      } catch (const std::runtime_error& error) {
        CHECK(error.what() == "task " + std::to_string(bad));
      }
      std::atomic<int64_t> sum{0};
      pool.parallel_for(10, [&](int64_t task, int) { sum += task; });
      REQUIRE(sum == 45);
    }
  }
}

TEST_CASE("all tasks failing still gives one error") {
  ThreadPool pool(3);
  for (int round = 0; round < 200; ++round)
    CHECK_THROWS_AS(pool.parallel_for(100, [](int64_t, int) { throw std::logic_error("all"); }),
                    std::logic_error);
}

TEST_CASE("scratch memory: aligned, one of each worker and slot, kept until it must grow") {
  ThreadPool pool(2);
  std::set<void*> all;
  for (int worker = 0; worker < 2; ++worker)
    for (int slot = 0; slot < ThreadPool::kScratchSlots; ++slot) {
      void* memory = pool.scratch(worker, 1000, slot);
      CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0);
      std::memset(memory, 16 * worker + slot, 1000);
      CHECK(all.insert(memory).second);
    }

  for (int worker = 0; worker < 2; ++worker)
    for (int slot = 0; slot < ThreadPool::kScratchSlots; ++slot) {
      const auto* kept = static_cast<const unsigned char*>(pool.scratch(worker, 10, slot));
      CHECK(kept[0] == 16 * worker + slot);
      CHECK(kept[999] == 16 * worker + slot);
    }
  std::memset(pool.scratch(1, 1 << 20, 2), 1, 1 << 20);
}

TEST_CASE("a pool needs a thread") {
  CHECK_THROWS_AS(ThreadPool(0), Error);
}

}  // namespace longtake::testing
