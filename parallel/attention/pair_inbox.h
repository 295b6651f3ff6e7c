// What comes in over a pair, as bytes: frames on the control stream and, unless the slots are
// shared, payloads on a stream of their own, in the order of their messages. No sockets.
#pragma once

#include <deque>

#include "parallel/attention/frame.h"
#include "parallel/attention/slot_memory.h"
#include "parallel/attention/wire.h"

namespace longtake {

class PairInbox {
 public:
  // `slots` must outlive this. `shared`: payloads lie there already when their messages come.
  PairInbox(PairEnd at, const PairTerms& terms, const SlotMemory& slots, bool shared);

  // Errors: malformed frames; the messages before them are still there to take.
  void add_control(BytesView bytes);
  // Where the next bytes of the payload stream go; empty while no message waits for its payload.
  std::span<std::byte> payload_room() const;
  void payload_came(size_t bytes);

  // Payloads come another way from now on.
  void drop_slots() { shared_ = true; }
  void put_back(const std::vector<PairMessage>& messages);
  // Complete messages in their order, except that heartbeats do not wait for payloads.
  std::vector<PairMessage> take();
  // Where the streams are now, when it is not between two messages: "in the middle of a frame".
  std::string unfinished() const;

 private:
  bool complete(const PairMessage& message) const;

  PairEnd at_;
  PairTerms terms_;
  const SlotMemory& slots_;
  bool shared_;
  FrameReader frames_;
  std::vector<PairMessage> put_back_, heartbeats_;
  std::deque<PairMessage> messages_;  // the first one may wait for its payload
  uint64_t payload_came_ = 0;         // of the first one
};

}  // namespace longtake
