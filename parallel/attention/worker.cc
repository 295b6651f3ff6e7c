#include "parallel/attention/worker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "kernels/base/error.h"
#include "parallel/attention/socket.h"
#include "parallel/attention/task_compute.h"
#include "parallel/attention/worker_gate.h"

namespace longtake {

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The worker's two threads: this one computes, the other one talks.
class Worker {
 public:
  Worker(std::vector<std::unique_ptr<PairLink>> links, const WorkerRules& rules,
         const std::atomic<bool>& stop, StreamRef stream)
      : rules_(rules), stop_(stop), stream_(stream), wake_fd_(::eventfd(0, EFD_NONBLOCK)) {
    LT_CHECK(wake_fd_ >= 0, "eventfd: {}", std::strerror(errno));
    keep_bytes_ = rules.keep_bytes / std::max<size_t>(1, links.size());
    for (auto& link : links) {
      ranks_.push_back({.link = std::move(link), .heard_s = now()});
      kept_.emplace_back(keep_bytes_);
    }
    if (rules.gate) rules.gate->watch([this] { wake(); });
    talk_ = std::thread([this] { talk(); });
  }
  ~Worker() {
    talk_.join();
    if (rules_.gate) rules_.gate->watch({});
    ::close(wake_fd_);
  }

  WorkerSummary run() {
    while (const std::optional<Queued> next = take()) compute_one(*next);
    const std::lock_guard lock(mutex_);
    return summary_;
  }

 private:
  struct Rank {
    std::unique_ptr<PairLink> link;  // null: gone and forgotten
    double heard_s = 0;
    double next_heartbeat_s = 0;
    bool gone = false;
  };
  struct Queued {
    size_t rank = 0;
    AttentionTask task;
    double arrived_s = 0;
    const std::byte* in = nullptr;
    std::byte* out = nullptr;
    Device device;  // where both lie
  };
  struct Finished {
    size_t rank = 0;
    AttentionAnswer answer;
  };

  // The next task; none: it is over.
  std::optional<Queued> take() {
    std::unique_lock lock(mutex_);
    const double start = now();
    todo_changed_.wait(lock, [&] { return over_ || !queue_.empty(); });
    summary_.idle_s += now() - start;
    if (queue_.empty()) return {};
    const Queued next = queue_.front();
    queue_.pop_front();
    computing_ = next.rank;
    return next;
  }

  void compute_one(const Queued& next) {
    AttentionAnswer answer{.id = next.task.id, .epoch = next.task.epoch, .slot = next.task.slot};
    const double start = now();
    answer.queue_s = static_cast<float>(start - next.arrived_s);
    const bool on_gpu = next.device.type == DeviceType::cuda;  // then it is not read here
    if (!on_gpu && payload_checksum(next.in, next.task.payload_bytes()) != next.task.checksum) {
      answer.status = AnswerStatus::bad_payload;
    } else {
      try {
        if (rules_.before_task) rules_.before_task(next.task);
        if (compute(next.task, next.in, next.out, next.device, kept_[next.rank], stream_)) {
          answer.payload_bytes = next.task.answer_bytes();
          if (!on_gpu) answer.checksum = payload_checksum(next.out, answer.payload_bytes);
        } else {
          answer.status = AnswerStatus::need_keys;
        }
      } catch (const Error&) {
        answer.status = AnswerStatus::failed;
        answer.payload_bytes = 0;
      }
    }
    answer.kernel_s = static_cast<float>(now() - start);
    if (rules_.before_answer) rules_.before_answer(answer, next.out);
    const std::lock_guard lock(mutex_);
    computing_.reset();
    ++summary_.tasks;
    summary_.kernel_s += static_cast<double>(answer.kernel_s);
    finished_.push_back({next.rank, answer});
    wake();
  }

  void wake() const {
    const uint64_t one = 1;
    (void)!::write(wake_fd_, &one, sizeof one);
  }

  void talk() {
    while (talk_once()) {
    }
    const std::lock_guard lock(mutex_);
    over_ = true;
    queue_.clear();
    todo_changed_.notify_all();
  }

  // False: there is nobody left to talk to, or all has been said.
  bool talk_once() {
    constexpr std::chrono::milliseconds kTick{100};
    const int opens_in = rules_.gate ? rules_.gate->opens_in_ms() : 0;
    std::vector<pollfd> waits{{wake_fd_, POLLIN, 0}};
    for (const Rank& rank : ranks_)
      if (rank.link) rank.link->add_waits(waits);
    const bool polling = std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& r) {
      return r.link != nullptr && r.link->polling();
    });
    const std::chrono::milliseconds gate_tick =
        opens_in > 0 ? std::chrono::milliseconds(opens_in) : kTick;
    wait_for_any(waits, polling ? kPollingTick : std::chrono::microseconds(gate_tick));
    uint64_t woken = 0;
    (void)!::read(wake_fd_, &woken, sizeof woken);
    heed_gate();
    send_finished();
    for (size_t i = 0; i < ranks_.size(); ++i)
      if (ranks_[i].link) serve(i);
    release_gone();
    if (stop_ && leave()) return false;
    return std::any_of(ranks_.begin(), ranks_.end(),
                       [](const Rank& r) { return r.link != nullptr; });
  }

  void heed_gate() {
    if (!rules_.gate) return;
    const bool open = rules_.gate->opens_in_ms() == 0;
    if (open != open_) {
      open_ = open;
      for (Rank& rank : ranks_) rank.next_heartbeat_s = 0;  // say so at once
    }
    if (open_) return;
    const std::lock_guard lock(mutex_);
    for (const Queued& queued : queue_) give_back(queued.rank, queued.task);
    queue_.clear();
  }

  // With the lock held.
  void give_back(size_t rank, const AttentionTask& task) {
    finished_.push_back({rank,
                         {.id = task.id,
                          .epoch = task.epoch,
                          .slot = task.slot,
                          .status = AnswerStatus::busy,
                          .payload_bytes = 0,
                          .queue_s = 0,
                          .kernel_s = 0,
                          .checksum = 0}});
  }

  void send_finished() {
    std::deque<Finished> finished;
    {
      const std::lock_guard lock(mutex_);
      finished.swap(finished_);
    }
    for (const Finished& one : finished) {
      Rank& rank = ranks_[one.rank];
      if (!rank.link || rank.gone) continue;
      post(rank, one.answer);
      const std::lock_guard lock(mutex_);
      summary_.sent_bytes += one.answer.payload_bytes;
    }
  }

  void post(Rank& rank, const PairMessage& message) {
    try {
      rank.link->post(message);
    } catch (const Error& e) {
      lose(rank, e.what());
    }
  }

  void serve(size_t index) {
    Rank& rank = ranks_[index];
    if (rank.gone) return;
    try {
      for (const PairMessage& message : rank.link->pump()) {
        rank.heard_s = now();
        if (std::holds_alternative<Goodbye>(message)) return lose(rank, "");
        if (const auto* task = std::get_if<AttentionTask>(&message)) enqueue(index, *task);
      }
    } catch (const Error& e) {
      return lose(rank, e.what());
    }
    if (now() - rank.heard_s > rules_.silence_s)
      return lose(rank, fmt::format("{} has been silent for {:.0f} s", rank.link->peer(),
                                    rules_.silence_s));
    if (now() < rank.next_heartbeat_s) return;
    rank.next_heartbeat_s = now() + rules_.heartbeat_s;
    uint32_t queued = 0;
    {
      const std::lock_guard lock(mutex_);
      queued = static_cast<uint32_t>(queue_.size());
    }
    post(rank, Heartbeat{queued, open_, keep_bytes_});
  }

  void enqueue(size_t index, const AttentionTask& task) {
    PairLink& link = *ranks_[index].link;
    const std::lock_guard lock(mutex_);
    if (!open_) {
      give_back(index, task);
      return wake();
    }
    queue_.push_back({index, task, now(), link.task_payload(task.slot),
                      link.answer_payload(task.slot), link.device()});
    summary_.received_bytes += task.payload_bytes();
    todo_changed_.notify_one();
  }

  // Its tasks are of no use to anybody; its slots stay until none of them is being computed.
  void lose(Rank& rank, const std::string& why) {
    rank.gone = true;
    const std::lock_guard lock(mutex_);
    if (why.empty())
      ++summary_.goodbyes;
    else
      summary_.broken.push_back(why);
    std::erase_if(queue_, [&](const Queued& q) { return &ranks_[q.rank] == &rank; });
  }

  void release_gone() {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < ranks_.size(); ++i)
      if (ranks_[i].gone && computing_ != i) ranks_[i].link.reset();
  }

  // What is queued is left to others; the task under way is answered first.
  bool leave() {
    {
      const std::lock_guard lock(mutex_);
      queue_.clear();
      if (computing_ || !finished_.empty()) return false;
    }
    for (Rank& rank : ranks_)
      if (rank.link && !rank.gone && !left_) post(rank, Goodbye{});
    left_ = true;
    bool sending = false;
    for (Rank& rank : ranks_)
      sending = sending || (rank.link && !rank.gone && rank.link->sending());
    return !sending;
  }

  WorkerRules rules_;
  const std::atomic<bool>& stop_;
  StreamRef stream_;
  int wake_fd_;
  std::vector<Rank> ranks_;     // of the talking thread
  size_t keep_bytes_ = 0;       // for each rank
  std::vector<KeptKeys> kept_;  // of each rank; of the computing thread
  bool left_ = false;
  bool open_ = true;  // as the ranks were told
  std::mutex mutex_;
  std::condition_variable todo_changed_;
  std::deque<Queued> queue_;
  std::deque<Finished> finished_;
  std::optional<size_t> computing_;  // for which rank
  bool over_ = false;
  WorkerSummary summary_;
  std::thread talk_;
};

}  // namespace

WorkerSummary run_worker(std::vector<std::unique_ptr<PairLink>> links, const WorkerRules& rules,
                         const std::atomic<bool>& stop, StreamRef stream) {
  return Worker(std::move(links), rules, stop, stream).run();
}

}  // namespace longtake
