#include "runtime/stream/encode_thread.h"

namespace longtake {

namespace {

constexpr size_t kMostQueued = 8;

}  // namespace

EncodeThread::EncodeThread(VideoWriter& writer) : writer_(writer), thread_([this] { loop(); }) {}

EncodeThread::~EncodeThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void EncodeThread::write(std::span<const uint8_t> rgb) {
  std::vector<uint8_t> frame(rgb.begin(), rgb.end());
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return error_ || queue_.size() < kMostQueued; });
  if (error_) std::rethrow_exception(error_);
  queue_.push_back(std::move(frame));
  changed_.notify_all();
}

void EncodeThread::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return error_ || queue_.empty(); });
  if (error_) std::rethrow_exception(error_);
}

void EncodeThread::loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const uint8_t* frame = queue_.front().data();  // stays where it is while others are pushed
    lock.unlock();
    std::exception_ptr error;
    try {
      writer_.write(frame);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    queue_.pop_front();
    error_ = error;
    changed_.notify_all();
    if (error_) return;
  }
}

}  // namespace longtake
