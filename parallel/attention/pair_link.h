// The connection of one pipeline rank with one attention worker: small messages both ways (control)
// and static slots for payloads, in shared memory on one host, through a second socket otherwise.
// Nothing here ever waits: the owner polls the descriptors and calls pump().
#pragma once

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "parallel/attention/task.h"

namespace longtake {

using PairMessage =
    std::variant<AttentionTask, AttentionAnswer, Heartbeat, Goodbye, NcclOffer, NcclVerdict>;

// Fixed when the pair is made; both ends have the same.
struct PairTerms {
  uint32_t epoch = 0;                         // of the session, counted by the rank
  uint16_t slots = 2;                         // tasks in flight at most
  uint64_t task_bytes = 0, answer_bytes = 0;  // of a slot's payload at most
};

// Used by one thread at a time. Errors are Error: closed by the peer, malformed or oversized
// message, payload that does not fit its slot; the link is of no use afterwards.
class PairLink {
 public:
  virtual ~PairLink() = default;

  virtual const PairTerms& terms() const = 0;
  virtual std::string peer() const = 0;  // "worker 4242 on node7", for messages
  virtual bool shared_memory() const = 0;
  virtual Device device() const { return {}; }  // where the slots lie

  // Where a slot's payload is written before post() and lies when pump() returns its message. The
  // rank writes tasks and reads answers, the worker the other way round.
  virtual std::byte* task_payload(int slot) = 0;
  virtual std::byte* answer_payload(int slot) = 0;

  // Queues a message and, for a task or an answer, its payload from its slot, which stays as it is
  // until the peer has answered (a task's) or the slot is used again (an answer's).
  virtual void post(const PairMessage& message) = 0;
  // Sends and receives what can be without waiting; the complete messages, in order, except that
  // heartbeats do not wait for payloads. What came before a failure is returned before it is
  // thrown.
  virtual std::vector<PairMessage> pump() = 0;
  // Appends what to poll for before pump() makes sense again.
  virtual void add_waits(std::vector<pollfd>& out) const = 0;
  virtual bool sending() const = 0;  // something posted is not yet on its way
  // Something is under way that no descriptor tells of: pump() is to be called again soon.
  virtual bool polling() const { return false; }
  // Gives up the slots: from now on payloads find another way than this link.
  virtual void drop_slots() = 0;
  // What pump() returned and is to return again, in front of what comes.
  virtual void put_back(const std::vector<PairMessage>& messages) = 0;
};

// Between two calls of pump() of a link that is polling().
inline constexpr std::chrono::microseconds kPollingTick{100};

// Two ends in one process, without sockets: for tests.
struct LinkedPair {
  std::unique_ptr<PairLink> rank, worker;
};
LinkedPair make_local_pair(const PairTerms& terms);

}  // namespace longtake
