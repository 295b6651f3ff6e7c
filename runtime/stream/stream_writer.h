// Finished blocks and states of the queue to the run folder, and blocks to pictures, while later
// blocks are still being denoised. One thread stores, so that denoising never waits for a disk;
// another decodes what is stored, at its own pace, or the caller does.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "runtime/stream/latent_store.h"
#include "runtime/stream/video_output.h"

namespace longtake {

class StreamWriter {
 public:
  enum class Mode {
    caller,      // decodes in push(), with all the caller's threads: nobody waits for this rank
    background,  // in a thread of low priority that uses the time the rank spends waiting
  };
  struct Seconds {
    double store = 0, decode = 0, first_frames = 0;  // first_frames: since the writer was made
    std::vector<double> commits;                     // of every commit
  };

  // What the threads did, for the trace.
  struct Event {
    enum class Kind { block, state, decode } kind;
    int64_t index;  // of the block, or the sweep before which the state is
    std::chrono::steady_clock::time_point begin, end;
  };

  // video may be null: latents only. `pool` is used in Mode::caller. In the background it is one
  // thread, and `spare_threads` from finish() or settled() on, when the rank has nothing else to
  // do. first_block: of the run from here on; the blocks before it are in the store and only
  // decoded.
  StreamWriter(LatentStore& store, VideoOutput* video, Mode mode, ThreadPool& pool,
               int64_t first_block = 0, int spare_threads = 1);
  ~StreamWriter();

  // The next block, f32 [channels, frames, h, w]; a copy is taken. Blocks that the store already
  // had when the writer was made must come with the same bits. Waits when many are queued. An error
  // of an earlier block is thrown here or in finish().
  void push(ConstTensor latents);
  // A state whose files are published; follows the blocks pushed before.
  void push_state(CommittedState state);
  // True when all that was pushed so far is stored and decoded; waits for that at most this long.
  bool settled(std::chrono::milliseconds most);
  void finish();  // all blocks are stored, all frames written
  // The same, but what is not decoded yet stays so: the run goes on later.
  void stop();
  int64_t frames() const;
  int64_t blocks() const;                                       // of the video that are stored
  const Seconds& seconds() const { return seconds_; }           // after finish()
  const std::vector<Event>& events() const { return events_; }  // the same; the first 20,000

 private:
  using Task = std::variant<OwnedTensor, CommittedState>;  // [frames, channels, h, w]
  void enqueue(Task task);
  void carry_out(const Task& task);
  void store_loop();
  void decode_loop();
  void decode(ConstTensor latents, StreamRef stream);
  // The next stored block to decode; false when there is none yet.
  bool next_to_decode(CommittedBlock& block) const;
  void note(Event::Kind kind, int64_t index, std::chrono::steady_clock::time_point begin);
  void fail_later();
  void join();

  LatentStore& store_;
  VideoOutput* video_;
  Mode mode_;
  ThreadPool& pool_;
  std::chrono::steady_clock::time_point start_;
  Seconds seconds_;
  int64_t kept_;    // blocks that an earlier process committed
  int64_t pushed_;  // blocks of the video
  int spare_threads_;
  std::thread store_thread_, decode_thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> queue_;
  bool storing_ = false, decoding_ = false, stop_ = false, stop_decoding_ = false,
       finishing_ = false;
  std::vector<CommittedBlock> stored_;  // of the video, from block 0
  size_t decoded_ = 0;                  // blocks
  int64_t frames_ = 0;
  std::vector<Event> events_;
  std::exception_ptr error_;
};

}  // namespace longtake
