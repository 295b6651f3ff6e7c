// A thread that encodes frames while the next ones are decoded.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "runtime/stream/video_writer.h"

namespace longtake {

class EncodeThread {
 public:
  // `writer` is this thread's alone until drain() has returned.
  explicit EncodeThread(VideoWriter& writer);
  ~EncodeThread();  // frames that are still queued are dropped
  EncodeThread(const EncodeThread&) = delete;
  EncodeThread& operator=(const EncodeThread&) = delete;

  // The next frame, [height, width, 3]; a copy is taken. Waits when many are queued. An error of an
  // earlier frame is thrown here or in drain().
  void write(std::span<const uint8_t> rgb);
  void drain();  // returns when all frames are encoded

 private:
  void loop();

  VideoWriter& writer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<uint8_t>> queue_;  // the first one is being encoded
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace longtake
