// Lets a worker that lives in a pipeline rank compute only while the rank waits for others.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>

namespace longtake {

class WorkerGate {
 public:
  // By the rank's thread. A wait that ends at once opens nothing.
  void open() { set(now_ns()); }
  void close() { set(0); }

  // By the worker's: milliseconds until it is open, 0: it is, -1: it is closed.
  int opens_in_ms() const {
    constexpr int64_t kPatience_ns = 1'000'000;
    const int64_t since = since_ns_.load();
    if (since == 0) return -1;
    return now_ns() - since >= kPatience_ns ? 0 : 1;
  }
  // `changed` is called by the rank's thread; an empty one is not.
  void watch(std::function<void()> changed) {
    const std::lock_guard lock(mutex_);
    changed_ = std::move(changed);
  }

 private:
  static int64_t now_ns() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  void set(int64_t since) {
    since_ns_.store(since);
    const std::lock_guard lock(mutex_);
    if (changed_) changed_();
  }

  std::atomic<int64_t> since_ns_{0};  // 0: closed
  std::mutex mutex_;
  std::function<void()> changed_;
};

}  // namespace longtake
