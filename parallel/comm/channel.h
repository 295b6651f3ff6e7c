// Point-to-point data: one directed, ordered stream of messages between two ranks, with buffers
// that are made once. The plan says what comes, so no shape travels ahead. All waits have a
// deadline; what is waited for is named in the error.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/base/device.h"

namespace longtake {

// Fails a wait: Error(ExitCode::watchdog) with rank, peer, what was waited for and what every rank
// says that it is doing.
struct Deadline {
  std::chrono::milliseconds limit{std::chrono::minutes(10)};
};

class SendChannel {
 public:
  virtual ~SendChannel() = default;
  // A free buffer of the channel's message size; waits only when all `depth` are still on their
  // way. `what` is for the error.
  virtual void* acquire(const std::string& what) = 0;
  // Sends the buffer of the last acquire(); `bytes` <= message size. Does not wait.
  virtual void send(size_t bytes) = 0;
  // Waits until everything has left.
  virtual void flush(const std::string& what) = 0;
  // Where the buffers lie; device memory is written in the order of the rank's own stream.
  virtual Device device() const { return {}; }
};

class ReceiveChannel {
 public:
  virtual ~ReceiveChannel() = default;
  // The next message, in order; fails with bad_data unless it has exactly `bytes`. Valid until
  // release().
  virtual const void* receive(size_t bytes, const std::string& what) = 0;
  virtual void release() = 0;  // the buffer may be filled again
  // Would receive() return at once? False also where that is not known.
  virtual bool arrived() { return false; }
  virtual Device device() const { return {}; }
};

// The data plane of one rank. Both ends must open a channel with the same tag, size and depth; a
// channel is opened before the run and used by one thread.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;
  virtual std::unique_ptr<SendChannel> open_send(int to, int tag, size_t message_bytes,
                                                 int depth) = 0;
  virtual std::unique_ptr<ReceiveChannel> open_receive(int from, int tag, size_t message_bytes,
                                                       int depth) = 0;
  // For small messages in host memory.
  virtual Transport& control() { return *this; }
  // After all channels of this rank have been opened, on every rank.
  virtual void ready() {}
  // What every rank is doing, for the message of a missed deadline.
  virtual std::string in_flight() = 0;
  // What this rank is doing, for the message of a missed deadline; asked from other ranks, in
  // progress() and in waits, or from other threads.
  virtual void answer_with(std::function<std::string()> doing) = 0;
  // Lets messages move on without waiting: called between pieces of work.
  virtual void progress() = 0;
  // Seconds spent waiting in receive() and acquire() since the start.
  virtual double wait_seconds() const = 0;
};

}  // namespace longtake
