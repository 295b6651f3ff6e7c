// What the two ends of a channel between GPUs tell each other over the control transport: which
// message is under way and how long it is, which has arrived, which buffer is free again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "parallel/comm/channel.h"

namespace longtake {

// Tags of control messages: beside those of payloads and of checkpoints. To one of them the
// channel's own tag is added.
struct EdgeTags {
  static constexpr int notice = 500, reply = 600, sender_opens = 700, receiver_opens = 800;
};

// One transport's control plane, and its waits for what no control message tells.
struct EdgeContext {
  Transport& control;
  Deadline deadline;
  double wait_s = 0;
  std::string last_error;  // of a missed deadline

  // Polls until done() or the deadline.
  void wait(int peer, const std::string& what, const std::function<bool()>& done);
};

struct EdgeNote {
  enum class Kind : int64_t { issued, closed, received, released } kind;
  int64_t message;  // number of the message, from 0; of `closed`: how many there were
  uint64_t bytes;   // of an issued message
};

class SenderNotes {
 public:
  SenderNotes(Transport& control, int to, int tag, int depth);

  int64_t issued() const { return issued_; }
  void issue(size_t bytes);  // the next message is under way
  // Waits until so many messages have arrived, or have been read and given back.
  void await_received(int64_t messages, const std::string& what);
  void await_released(int64_t messages, const std::string& what);
  void close();  // nothing comes any more, and nothing of the other end is used

 private:
  void send(const EdgeNote& note);
  void take(const std::string& what);
  std::unique_ptr<SendChannel> out_;
  std::unique_ptr<ReceiveChannel> in_;
  int64_t issued_ = 0, received_ = 0, released_ = 0;
};

class ReceiverNotes {
 public:
  ReceiverNotes(Transport& control, int from, int tag, int depth);

  EdgeNote next(const std::string& what);  // waits
  bool arrived() { return in_->arrived(); }
  void received();
  void released();
  int64_t released_count() const { return released_; }
  bool closed();  // without waiting; drops notes of messages that nobody asked for

 private:
  EdgeNote take(const std::string& what);
  void send(const EdgeNote& note);
  std::unique_ptr<SendChannel> out_;
  std::unique_ptr<ReceiveChannel> in_;
  int64_t issued_ = 0, received_ = 0, released_ = 0;
  bool closed_ = false;
};

}  // namespace longtake
