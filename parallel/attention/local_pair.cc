// Two ends in one process. The messages pass as frames, so that they are checked like any others.
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "kernels/base/error.h"
#include "parallel/attention/pair_inbox.h"

namespace longtake {

namespace {

// One way.
struct Queue {
  Bytes bytes;
  bool closed = false;  // by the end that writes
  int wake = -1;        // eventfd of the end that reads
};

struct Shared {
  explicit Shared(const PairTerms& pair_terms) : terms(pair_terms), slots(pair_terms) {
    for (Queue& queue : to) {
      queue.wake = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
      LT_CHECK(queue.wake >= 0, "eventfd: {}", std::strerror(errno));
    }
  }
  ~Shared() {
    for (const Queue& queue : to) (void)::close(queue.wake);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  const PairTerms terms;
  const SlotMemory slots;
  std::mutex mutex;
  std::array<Queue, 2> to;  // by PairEnd
};

void wake(const Queue& queue) {
  const uint64_t one = 1;
  // Fails only when it counts to 2^64 unread, and then the end is awake.
  (void)!::write(queue.wake, &one, sizeof one);
}

class LocalLink : public PairLink {
 public:
  LocalLink(PairEnd end, std::shared_ptr<Shared> shared)
      : end_(end), shared_(std::move(shared)), inbox_(end, shared_->terms, shared_->slots, true) {}
  ~LocalLink() override {
    const std::lock_guard lock(shared_->mutex);
    outgoing().closed = true;
    wake(outgoing());
  }

  const PairTerms& terms() const override { return shared_->terms; }
  std::string peer() const override {
    return end_ == PairEnd::rank ? "the worker in this process" : "the rank in this process";
  }
  bool shared_memory() const override { return true; }
  std::byte* task_payload(int slot) override { return shared_->slots.task(slot); }
  std::byte* answer_payload(int slot) override { return shared_->slots.answer(slot); }

  void post(const PairMessage& message) override {
    check_direction(message, end_);
    const std::lock_guard lock(shared_->mutex);
    append_message(outgoing().bytes, message, shared_->terms);
    wake(outgoing());
  }

  std::vector<PairMessage> pump() override {
    bool closed = false;
    Bytes came;
    {
      const std::lock_guard lock(shared_->mutex);
      Queue& queue = shared_->to[static_cast<size_t>(end_)];
      came.swap(queue.bytes);
      closed = queue.closed;
      uint64_t count = 0;
      if (!closed) (void)!::read(queue.wake, &count, sizeof count);  // nothing to read: not woken
    }
    inbox_.add_control(came);
    std::vector<PairMessage> out = inbox_.take();
    if (out.empty() && closed) fail(ExitCode::io, "{}: closed the connection", peer());
    return out;
  }

  void add_waits(std::vector<pollfd>& out) const override {
    out.push_back({shared_->to[static_cast<size_t>(end_)].wake, POLLIN, 0});
  }
  void put_back(const std::vector<PairMessage>& messages) override { inbox_.put_back(messages); }
  bool sending() const override { return false; }
  void drop_slots() override {}  // the other end may still use them

 private:
  Queue& outgoing() { return shared_->to[1 - static_cast<size_t>(end_)]; }

  PairEnd end_;
  std::shared_ptr<Shared> shared_;
  PairInbox inbox_;
};

}  // namespace

LinkedPair make_local_pair(const PairTerms& terms) {
  check_terms(terms);
  const auto shared = std::make_shared<Shared>(terms);
  return {std::make_unique<LocalLink>(PairEnd::rank, shared),
          std::make_unique<LocalLink>(PairEnd::worker, shared)};
}

}  // namespace longtake
