// Finished blocks to the run folder and to pictures while later blocks are still being denoised.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/stream/latent_store.h"
#include "runtime/stream/video_output.h"

namespace longtake {

class StreamWriter {
 public:
  enum class Mode {
    caller,      // in push(), with all the caller's threads: where nobody waits for this rank
    background,  // in a thread of low priority that uses the time the rank spends waiting
  };
  struct Seconds {
    double store = 0, decode = 0, first_frames = 0;  // first_frames: since the writer was made
  };

  // What happened to a block.
  struct Event {
    int64_t block;
    std::chrono::steady_clock::time_point begin, stored, end;  // storing, then decoding
  };

  // video may be null: latents only. `pool` is used in Mode::caller. In the background it is one
  // thread, and `spare_threads` for blocks that are begun while the rank waits for the writer: in
  // finish(), and in push() when the queue is full.
  StreamWriter(LatentStore& store, VideoOutput* video, Mode mode, ThreadPool& pool,
               int spare_threads = 1);
  ~StreamWriter();

  // The next block from the first, f32 [channels, frames, h, w]; a copy is taken. Blocks that the
  // store already had when the writer was made must come with the same bits. Waits when many are
  // queued. An error of an earlier block is thrown here or in finish().
  void push(ConstTensor latents);
  void finish();  // all blocks are stored, all frames written
  int64_t frames() const;
  int64_t blocks() const;
  const Seconds& seconds() const { return seconds_; }           // after finish()
  const std::vector<Event>& events() const { return events_; }  // the same; the first 10,000

 private:
  void write(const OwnedTensor& latents, StreamRef stream);  // [frames, channels, h, w]
  void loop();

  LatentStore& store_;
  VideoOutput* video_;
  Mode mode_;
  ThreadPool& pool_;
  int spare_threads_;
  std::vector<Event> events_;
  std::chrono::steady_clock::time_point start_;
  Seconds seconds_;
  std::thread thread_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<OwnedTensor> queue_;
  bool writing_ = false, stop_ = false, rank_waits_ = false;
  int64_t kept_;  // blocks that an earlier process committed
  int64_t frames_ = 0, blocks_ = 0;
  std::exception_ptr error_;
};

// [channels, frames, h, w] -> [frames, channels, h, w], as latents are stored.
OwnedTensor time_first(ConstTensor latents);

}  // namespace longtake
