#include "runtime/stream/stream_writer.h"

#include <sys/resource.h>

#include <chrono>
#include <cstring>

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMostQueued = 8;
constexpr int kLowestPriority = 19;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

OwnedTensor time_first(ConstTensor x) {
  const int64_t c = x.dim(0), t = x.dim(1), plane = x.dim(2) * x.dim(3);
  OwnedTensor out(DType::f32, {t, c, x.dim(2), x.dim(3)});
  for (int64_t i = 0; i < c; ++i)
    for (int64_t j = 0; j < t; ++j)
      std::memcpy(out.as<float>() + (j * c + i) * plane, x.as<float>() + (i * t + j) * plane,
                  static_cast<size_t>(plane) * sizeof(float));
  return out;
}

StreamWriter::StreamWriter(LatentStore& store, VideoOutput* video, Mode mode, ThreadPool& pool,
                           int spare_threads)
    : store_(store),
      video_(video),
      mode_(mode),
      pool_(pool),
      spare_threads_(spare_threads),
      start_(Clock::now()),
      kept_(static_cast<int64_t>(store.committed_blocks().size())) {
  if (mode == Mode::background) thread_ = std::thread([this] { loop(); });
}

StreamWriter::~StreamWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    queue_.clear();  // only after an error is anything left
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void StreamWriter::push(ConstTensor latents) {
  OwnedTensor block = time_first(latents);
  if (mode_ == Mode::caller) return write(block, StreamRef(pool_));
  std::unique_lock lock(mutex_);
  rank_waits_ = queue_.size() >= kMostQueued;
  changed_.wait(lock, [this] { return queue_.size() < kMostQueued || error_; });
  rank_waits_ = false;
  if (error_) std::rethrow_exception(error_);
  queue_.push_back(std::move(block));
  changed_.notify_all();
}

void StreamWriter::finish() {
  if (mode_ == Mode::background) {
    std::unique_lock lock(mutex_);
    rank_waits_ = true;
    changed_.wait(lock, [this] { return (queue_.empty() && !writing_) || error_; });
    if (error_) std::rethrow_exception(error_);
  }
  if (video_) video_->close();
}

int64_t StreamWriter::frames() const {
  const std::lock_guard lock(mutex_);
  return frames_;
}

int64_t StreamWriter::blocks() const {
  const std::lock_guard lock(mutex_);
  return blocks_;
}

void StreamWriter::write(const OwnedTensor& latents, StreamRef stream) {
  const Clock::time_point start = Clock::now();
  if (blocks_ < kept_)
    store_.confirm(blocks_, latents);
  else
    store_.append(latents);
  seconds_.store += seconds_since(start);
  const Clock::time_point stored = Clock::now();
  for (int64_t t = 0; video_ && t < latents.dim(0); ++t) {
    video_->push(latents.view().rows(t, t + 1), stream);
    const std::lock_guard lock(mutex_);
    frames_ = video_->frames();
    if (seconds_.first_frames == 0) seconds_.first_frames = seconds_since(start_);
  }
  seconds_.decode += seconds_since(stored);
  constexpr size_t kMostEvents = 10000;
  if (events_.size() < kMostEvents) events_.push_back({blocks_, start, stored, Clock::now()});
  const std::lock_guard lock(mutex_);
  ++blocks_;
}

void StreamWriter::loop() {
  // Of this thread only (Linux); where it is refused, decoding merely competes with denoising.
  (void)setpriority(PRIO_PROCESS, 0, kLowestPriority);
  ThreadPool one(1);
  std::optional<ThreadPool> spare;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const OwnedTensor block = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    const bool use_spare = rank_waits_ && spare_threads_ > 1;
    lock.unlock();
    try {
      if (use_spare && !spare) spare.emplace(spare_threads_);
      write(block, StreamRef(use_spare ? *spare : one));
    } catch (...) {
      lock.lock();
      error_ = std::current_exception();
      changed_.notify_all();
      return;
    }
    lock.lock();
    writing_ = false;
    changed_.notify_all();
  }
}

}  // namespace longtake
