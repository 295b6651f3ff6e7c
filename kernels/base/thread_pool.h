// A fixed team of threads. Work is cut into tasks by its shape alone, never by the number of
// threads, so results do not depend on how many threads there are. The caller works too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace longtake {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Runs body(task, worker) for every task in [0, tasks), worker in [0, threads()). Returns when
  // all are done; the first exception is thrown on the caller. Calls from inside a task are not
  // allowed.
  template <class Body>
  void parallel_for(int64_t tasks, Body&& body) {
    auto call = [](void* context, int64_t task, int worker) {
      (*static_cast<std::remove_reference_t<Body>*>(context))(task, worker);
    };
    run(tasks, call, const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Aligned scratch memory of one worker: at least `bytes`, kept and grown between calls. `slot`
  // tells independent uses within one task apart.
  void* scratch(int worker, size_t bytes, int slot = 0);
  static constexpr int kScratchSlots = 4;

 private:
  using Call = void (*)(void* context, int64_t task, int worker);
  void run(int64_t tasks, Call call, void* context);

  struct State;
  int threads_;
  std::unique_ptr<State> state_;
};

}  // namespace longtake
