#include "parallel/comm/loopback_channel.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

struct Message {
  size_t slot;
  size_t bytes;
  Clock::time_point visible;
};

// One directed channel: `depth` buffers that are free, being filled, on their way, or being read.
struct Pipe {
  std::vector<Buffer> slots;
  std::deque<size_t> free;
  std::deque<Message> sent;
  int64_t messages = 0;
  size_t message_bytes = 0;
  bool opened_send = false, opened_receive = false;
};

}  // namespace

struct LoopbackShared {
  int ranks;
  Deadline deadline;
  LoopbackJob::Delay delay;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::tuple<int, int, int>, Pipe> pipes;
  std::string failure;
  std::vector<std::function<std::string()>> doing;  // by rank

  std::string in_flight() const {
    std::string out;
    for (size_t i = 0; i < doing.size(); ++i)
      out += fmt::format("{}rank {}: {}", i == 0 ? "" : "; ", i,
                         doing[i] ? doing[i]() : std::string("nothing yet"));
    return out;
  }

  Pipe& open(int from, int to, int tag, size_t bytes, int depth, bool Pipe::*end) {
    const std::lock_guard lock(mutex);
    Pipe& pipe = pipes[{from, to, tag}];
    if (pipe.slots.empty()) {
      pipe.message_bytes = bytes;
      for (int i = 0; i < depth; ++i) {
        pipe.slots.emplace_back(bytes);
        pipe.free.push_back(static_cast<size_t>(i));
      }
    }
    LT_CHECK(pipe.message_bytes == bytes && pipe.slots.size() == static_cast<size_t>(depth) &&
                 !(pipe.*end),
             "channel {} -> {}, tag {}: expected {} buffers of {} bytes, found {} of {} (or opened "
             "twice)",
             from, to, tag, depth, bytes, pipe.slots.size(), pipe.message_bytes);
    pipe.*end = true;
    return pipe;
  }

  // Waits until ready() or the deadline; returns the seconds waited.
  template <class Ready>
  double wait(std::unique_lock<std::mutex>& lock, int rank, int peer, const std::string& what,
              Ready ready) {
    const Clock::time_point start = Clock::now(), end = start + deadline.limit;
    while (true) {
      if (!failure.empty()) fail(ExitCode::error, "rank {}: {}: {}", rank, what, failure);
      const Clock::time_point again = ready();  // time_point::min(): now
      if (again == Clock::time_point::min()) break;
      if (Clock::now() >= end)
        fail(ExitCode::watchdog, "rank {}: {}: nothing from rank {} in {:.1f} s; in flight: {}",
             rank, what, peer, std::chrono::duration<double>(deadline.limit).count(), in_flight());
      changed.wait_until(lock, std::min(again, end));
    }
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
};

namespace {

// Where a pipe ends for one rank.
struct End {
  std::shared_ptr<LoopbackShared> shared;
  Pipe* pipe;
  int rank, peer, from, to, tag;
  double* wait_s;
};

class LoopbackSend : public SendChannel {
 public:
  explicit LoopbackSend(End end) : end_(std::move(end)) {}

  void* acquire(const std::string& what) override {
    std::unique_lock lock(end_.shared->mutex);
    *end_.wait_s += end_.shared->wait(lock, end_.rank, end_.peer, what, [&] {
      return end_.pipe->free.empty() ? Clock::time_point::max() : Clock::time_point::min();
    });
    slot_ = end_.pipe->free.front();
    end_.pipe->free.pop_front();
    return end_.pipe->slots[slot_].data();
  }

  void send(size_t bytes) override {
    LT_CHECK(bytes <= end_.pipe->message_bytes, "a message of {} bytes in a channel for {}", bytes,
             end_.pipe->message_bytes);
    const std::lock_guard lock(end_.shared->mutex);
    const int64_t index = end_.pipe->messages++;
    auto visible = Clock::now();
    if (end_.shared->delay) visible += end_.shared->delay(end_.from, end_.to, end_.tag, index);
    end_.pipe->sent.push_back({slot_, bytes, visible});
    end_.shared->changed.notify_all();
  }

  void flush(const std::string&) override {}  // a sent buffer is the receiver's

 private:
  End end_;
  size_t slot_ = 0;
};

class LoopbackReceive : public ReceiveChannel {
 public:
  explicit LoopbackReceive(End end) : end_(std::move(end)) {}

  const void* receive(size_t bytes, const std::string& what) override {
    std::unique_lock lock(end_.shared->mutex);
    *end_.wait_s += end_.shared->wait(lock, end_.rank, end_.peer, what, [&] {
      if (end_.pipe->sent.empty()) return Clock::time_point::max();
      const auto visible = end_.pipe->sent.front().visible;
      return visible <= Clock::now() ? Clock::time_point::min() : visible;
    });
    const Message message = end_.pipe->sent.front();
    end_.pipe->sent.pop_front();
    slot_ = message.slot;
    if (message.bytes != bytes)
      fail(ExitCode::bad_data, "rank {}: {}: expected {} bytes from rank {}, found {}", end_.rank,
           what, bytes, end_.peer, message.bytes);
    return end_.pipe->slots[slot_].data();
  }

  void release() override {
    const std::lock_guard lock(end_.shared->mutex);
    end_.pipe->free.push_back(slot_);
    end_.shared->changed.notify_all();
  }

  bool arrived() override {
    const std::lock_guard lock(end_.shared->mutex);
    return !end_.pipe->sent.empty() && end_.pipe->sent.front().visible <= Clock::now();
  }

 private:
  End end_;
  size_t slot_ = 0;
};

class LoopbackTransport : public Transport {
 public:
  LoopbackTransport(std::shared_ptr<LoopbackShared> shared, int rank)
      : shared_(std::move(shared)), rank_(rank) {}
  ~LoopbackTransport() override { answer_with({}); }

  int rank() const override { return rank_; }
  int ranks() const override { return shared_->ranks; }
  std::unique_ptr<SendChannel> open_send(int to, int tag, size_t bytes, int depth) override {
    Pipe& pipe = shared_->open(rank_, to, tag, bytes, depth, &Pipe::opened_send);
    return std::make_unique<LoopbackSend>(End{shared_, &pipe, rank_, to, rank_, to, tag, &wait_s_});
  }
  std::unique_ptr<ReceiveChannel> open_receive(int from, int tag, size_t bytes,
                                               int depth) override {
    Pipe& pipe = shared_->open(from, rank_, tag, bytes, depth, &Pipe::opened_receive);
    return std::make_unique<LoopbackReceive>(
        End{shared_, &pipe, rank_, from, from, rank_, tag, &wait_s_});
  }
  void answer_with(std::function<std::string()> doing) override {
    const std::lock_guard lock(shared_->mutex);
    shared_->doing[static_cast<size_t>(rank_)] = std::move(doing);
  }
  std::string in_flight() override {
    const std::lock_guard lock(shared_->mutex);
    return shared_->in_flight();
  }
  void progress() override {}
  double wait_seconds() const override { return wait_s_; }

 private:
  std::shared_ptr<LoopbackShared> shared_;
  int rank_;
  double wait_s_ = 0;
};

}  // namespace

LoopbackJob::LoopbackJob(int ranks, Deadline deadline, Delay delay)
    : shared_(std::make_shared<LoopbackShared>()) {
  shared_->ranks = ranks;
  shared_->doing.resize(static_cast<size_t>(ranks));
  shared_->deadline = deadline;
  shared_->delay = std::move(delay);
}

LoopbackJob::~LoopbackJob() = default;

std::unique_ptr<Transport> LoopbackJob::transport(int rank) {
  LT_CHECK(0 <= rank && rank < shared_->ranks, "rank {} of {}", rank, shared_->ranks);
  return std::make_unique<LoopbackTransport>(shared_, rank);
}

void LoopbackJob::abort(const std::string& why) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->failure.empty()) shared_->failure = why;
  shared_->changed.notify_all();
}

}  // namespace longtake
