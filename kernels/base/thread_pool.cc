#include "kernels/base/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

namespace longtake {

namespace {
constexpr int kSpins = 2000;  // about 20 us: shorter than a sleep and a wake-up

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::vector<Buffer> scratch;

  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable done;
  std::atomic<uint64_t> generation{0};
  std::atomic<bool> stop{false};

  // The call that runs. Workers read it only between enter() and leave(); run() changes it only
  // when the gate is closed and empty. So a worker that wakes up late finds the gate closed, and
  // nobody waits for it: the caller has done its share of the tasks.
  Call call = nullptr;
  void* context = nullptr;
  int64_t tasks = 0;
  std::atomic<int64_t> next{0};
  std::atomic<uint32_t> gate{0};  // kOpen, plus the number of workers inside
  static constexpr uint32_t kOpen = 1u << 31;
  std::exception_ptr error;

  bool enter() {
    uint32_t now = gate.load(std::memory_order_relaxed);
    while (now & kOpen)
      if (gate.compare_exchange_weak(now, now + 1, std::memory_order_acquire)) return true;
    return false;
  }

  void leave() {
    if (gate.fetch_sub(1, std::memory_order_release) != 1) return;
    const std::lock_guard lock(mutex);
    done.notify_one();
  }

  // Returns when no worker is inside.
  void close() {
    gate.fetch_and(~kOpen, std::memory_order_relaxed);
    for (int i = 0; i < kSpins; ++i) {
      if (gate.load(std::memory_order_acquire) == 0) return;
      pause_cpu();
    }
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return gate.load(std::memory_order_acquire) == 0; });
  }

  void work(int worker) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      try {
        call(context, task, worker);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(tasks, std::memory_order_relaxed);
      }
    }
  }

  void worker_loop(int worker) {
    uint64_t seen = 0;
    while (true) {
      for (int i = 0; i < kSpins && generation.load(std::memory_order_acquire) == seen; ++i)
        pause_cpu();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        start.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      if (!enter()) continue;
      work(worker);
      leave();
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads), state_(std::make_unique<State>()) {
  LT_CHECK(threads >= 1, "a thread pool needs at least one thread, not {}", threads);
  state_->scratch.resize(static_cast<size_t>(threads) * kScratchSlots);
  for (int worker = 1; worker < threads; ++worker)
    state_->workers.emplace_back([this, worker] { state_->worker_loop(worker); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop.store(true, std::memory_order_release);
    state_->generation.fetch_add(1, std::memory_order_release);
    state_->start.notify_all();
  }
  for (std::thread& worker : state_->workers) worker.join();
}

void ThreadPool::run(int64_t tasks, Call call, void* context) {
  if (tasks <= 0) return;
  State& s = *state_;
  if (threads_ == 1 || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) call(context, task, 0);
    return;
  }
  s.call = call;
  s.context = context;
  s.tasks = tasks;
  s.error = nullptr;
  s.next.store(0, std::memory_order_relaxed);
  s.gate.store(State::kOpen, std::memory_order_release);
  {
    const std::lock_guard lock(s.mutex);
    s.generation.fetch_add(1, std::memory_order_release);
    s.start.notify_all();
  }
  s.work(0);
  s.close();
  if (s.error) std::rethrow_exception(s.error);
}

void* ThreadPool::scratch(int worker, size_t bytes, int slot) {
  Buffer& buffer = state_->scratch[static_cast<size_t>(worker * kScratchSlots + slot)];
  if (buffer.bytes() < bytes) buffer = Buffer(bytes);
  return buffer.data();
}

}  // namespace longtake
