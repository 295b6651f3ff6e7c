#include "parallel/attention/nccl_pair.h"

#include "kernels/base/error.h"

#ifndef LONGTAKE_NCCL

namespace longtake {

uint64_t nccl_gpu_number(int) {
  return 0;
}

std::unique_ptr<NcclUpgrade> begin_nccl_upgrade(std::unique_ptr<PairLink>, PairEnd, int,
                                                std::chrono::milliseconds) {
  fail(ExitCode::usage, "this longtake was built without NCCL");
}

}  // namespace longtake

#else

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <fstream>
#include <optional>
#include <utility>

#include "kernels/cuda/stream.h"
#include "parallel/comm/gpu_event.h"
#include "parallel/comm/nccl_channel.h"
#include "parallel/comm/nccl_library.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::chrono::seconds kLimit{20};  // of one payload
constexpr milliseconds kAbortLimit{2000};   // others are to be heard meanwhile
constexpr milliseconds kGrace{2000};        // for the other end's last word

const NcclLibrary& nccl() {
  return NcclLibrary::get();
}

// One direction. pump() carries on what was asked for, in order.
class Direction {
 public:
  Direction(const std::array<std::byte, 128>& id, bool sends, int gpu, const std::string& who)
      : sends_(sends), who_(who), stream_(gpu, cuda::Stream::Priority::high) {
    static_assert(sizeof(ncclUniqueId) == sizeof id);
    ncclUniqueId of_nccl;
    std::memcpy(&of_nccl, id.data(), sizeof of_nccl);
    nccl().begin_pair(&comm_, of_nccl, sends ? 0 : 1, who_);
  }
  Direction(const Direction&) = delete;
  Direction& operator=(const Direction&) = delete;

  ncclComm_t communicator() const { return comm_; }
  bool settled() const { return nccl().settled(comm_, who_); }
  // Bytes at `data`, which stay until it is done. Its number, from 1.
  uint64_t move(std::byte* data, size_t bytes) {
    if (moves_.empty()) progress_ = Clock::now();
    moves_.push_back({data, bytes, {}});
    return done_ + moves_.size();
  }
  // How many are done.
  uint64_t pump() {
    while (settled()) {
      if (issued_ > 0 && !moves_[issued_ - 1].moved) record(moves_[issued_ - 1]);
      if (issued_ == moves_.size()) break;
      issue(moves_[issued_++]);
    }
    while (!moves_.empty() && moves_.front().moved && moves_.front().moved->done()) {
      moves_.pop_front();
      --issued_;
      ++done_;
      progress_ = Clock::now();
    }
    if (!moves_.empty() && Clock::now() - progress_ > kLimit)
      fail(ExitCode::watchdog, "{}: NCCL has {} no payload in {} s", who_,
           sends_ ? "sent" : "received", kLimit.count());
    return done_;
  }
  bool busy() const { return !moves_.empty(); }

 private:
  struct Move {
    std::byte* data;
    size_t bytes;
    std::optional<GpuEvent> moved;  // once it is in the stream
  };

  void record(Move& move) { move.moved.emplace().record(stream_.handle()); }
  void issue(const Move& move) {
    const ncclResult_t result =
        sends_ ? nccl().send(move.data, move.bytes, ncclUint8, 1, comm_, stream_.handle())
               : nccl().receive(move.data, move.bytes, ncclUint8, 0, comm_, stream_.handle());
    nccl().accept(result, sends_ ? "ncclSend" : "ncclRecv", comm_, who_);
  }

  bool sends_;
  std::string who_;
  cuda::Stream stream_;
  ncclComm_t comm_ = nullptr;
  std::deque<Move> moves_;
  size_t issued_ = 0;           // of them
  Clock::time_point progress_;  // when one was done, or the first came
  uint64_t done_ = 0;
};

// Both directions, and the slots.
class Payloads {
 public:
  Payloads(int gpu, const PairTerms& terms) : gpu_(gpu), terms_(terms), memory_stream_(gpu) {}
  // Of two; if the second fails, the first is ended with this.
  void begin(const NcclOffer& offer, PairEnd end, const std::string& who) {
    make_current();
    tasks_ = std::make_unique<Direction>(offer.tasks, end == PairEnd::rank, gpu_, who);
    answers_ = std::make_unique<Direction>(offer.answers, end == PairEnd::worker, gpu_, who);
  }
  // Work of a dead peer never ends; if it cannot be ended, what it uses is left to it.
  ~Payloads() {
    std::vector<ncclComm_t> communicators;
    for (const auto* direction : {tasks_.get(), answers_.get()})
      if (direction && direction->communicator())
        communicators.push_back(direction->communicator());
    if (nccl().abort_all(communicators, kAbortLimit)) {
      if (slots_) (void)nccl().free(slots_);
    } else {
      (void)tasks_.release();
      (void)answers_.release();
    }
  }
  Payloads(const Payloads&) = delete;
  Payloads& operator=(const Payloads&) = delete;

  Device device() const { return {DeviceType::cuda, gpu_}; }
  // The slots are made when both communicators are.
  bool ready() {
    if (!tasks_->settled() || !answers_->settled()) return false;
    if (slots_) return true;
    memory_stream_.make_current();
    void *data = nullptr, *handle = nullptr;
    const size_t bytes = terms_.slots * (stride(terms_.task_bytes) + stride(terms_.answer_bytes));
    nccl().accept(nccl().allocate(&data, bytes), "ncclMemAlloc of the slots", nullptr, "a pair");
    slots_ = static_cast<std::byte*>(data);
    for (const auto* direction : {tasks_.get(), answers_.get()})
      nccl().accept(nccl().register_buffer(direction->communicator(), slots_, bytes, &handle),
                    "ncclCommRegister", direction->communicator(), "a pair");
    return true;
  }
  std::byte* task(int slot) const { return slots_ + at(slot) * stride(terms_.task_bytes); }
  std::byte* answer(int slot) const {
    return slots_ + terms_.slots * stride(terms_.task_bytes) +
           at(slot) * stride(terms_.answer_bytes);
  }
  Direction& tasks() { return *tasks_; }
  Direction& answers() { return *answers_; }
  void make_current() const { memory_stream_.make_current(); }

 private:
  static size_t stride(uint64_t bytes) { return (bytes + 255) / 256 * 256; }
  size_t at(int slot) const {
    LT_CHECK(slot >= 0 && slot < terms_.slots, "slot {} of {}", slot, terms_.slots);
    return static_cast<size_t>(slot);
  }

  int gpu_;
  PairTerms terms_;
  cuda::Stream memory_stream_;  // names the GPU; nothing is in it
  std::unique_ptr<Direction> tasks_, answers_;
  std::byte* slots_ = nullptr;
};

class NcclLink : public PairLink {
 public:
  NcclLink(std::unique_ptr<PairLink> control, PairEnd end, std::unique_ptr<Payloads> payloads)
      : control_(std::move(control)), end_(end), payloads_(std::move(payloads)) {
    control_->drop_slots();
  }

  const PairTerms& terms() const override { return control_->terms(); }
  std::string peer() const override { return control_->peer(); }
  bool shared_memory() const override { return false; }
  Device device() const override { return payloads_->device(); }
  std::byte* task_payload(int slot) override { return payloads_->task(slot); }
  std::byte* answer_payload(int slot) override { return payloads_->answer(slot); }

  void post(const PairMessage& message) override {
    control_->post(message);
    const uint64_t bytes = payload_bytes(message);
    if (bytes > 0) (void)out().move(slot_of(message), bytes);
    payloads_->make_current();
    (void)out().pump();
  }

  std::vector<PairMessage> pump() override {
    std::vector<PairMessage> out;
    std::exception_ptr failure;  // told once all that came before it is delivered
    payloads_->make_current();
    try {
      for (const PairMessage& message : control_->pump()) announce(message, out);
    } catch (const Error&) {
      failure = std::current_exception();
    }
    (void)this->out().pump();
    const uint64_t came = in().pump();
    for (; !waiting_.empty() && waiting_.front().second <= came; waiting_.pop_front())
      out.push_back(waiting_.front().first);
    if (failure && out.empty()) std::rethrow_exception(failure);
    return out;
  }

  void add_waits(std::vector<pollfd>& out) const override { control_->add_waits(out); }
  bool sending() const override { return control_->sending() || payload_direction(true).busy(); }
  bool polling() const override {
    return payload_direction(true).busy() || payload_direction(false).busy();
  }
  void drop_slots() override { fail(ExitCode::error, "the slots of an NCCL pair are its own"); }
  void put_back(const std::vector<PairMessage>&) override {
    fail(ExitCode::error, "nothing is put back into an NCCL pair");
  }

 private:
  void announce(const PairMessage& message, std::vector<PairMessage>& out) {
    if (std::holds_alternative<Heartbeat>(message)) return out.push_back(message);
    const uint64_t bytes = payload_bytes(message);
    const uint64_t before = waiting_.empty() ? 0 : waiting_.back().second;
    waiting_.emplace_back(message, bytes > 0 ? in().move(slot_of(message), bytes) : before);
  }
  Direction& payload_direction(bool out) const {
    return (end_ == PairEnd::rank) == out ? payloads_->tasks() : payloads_->answers();
  }
  Direction& out() { return payload_direction(true); }
  Direction& in() { return payload_direction(false); }
  std::byte* slot_of(const PairMessage& message) {
    if (const auto* task = std::get_if<AttentionTask>(&message)) return task_payload(task->slot);
    return answer_payload(std::get<AttentionAnswer>(message).slot);
  }

  std::unique_ptr<PairLink> control_;
  PairEnd end_;
  std::unique_ptr<Payloads> payloads_;
  // Messages and how many payloads must have come before they are complete.
  std::deque<std::pair<PairMessage, uint64_t> > waiting_;
};

class Upgrade : public NcclUpgrade {
 public:
  Upgrade(std::unique_ptr<PairLink> link, PairEnd end, int gpu, milliseconds limit)
      : link_(std::move(link)), end_(end), gpu_(gpu), until_(Clock::now() + limit) {
    if (end_ == PairEnd::worker) return;
    NcclOffer offer{.possible = true};
    for (auto* id : {&offer.tasks, &offer.answers}) {
      ncclUniqueId made;
      nccl().accept(nccl().get_unique_id(&made), "ncclGetUniqueId", nullptr, link_->peer());
      std::memcpy(id->data(), &made, sizeof made);
    }
    link_->post(offer);
    offer_ = offer;
    begin();
  }

  std::string why_not() const override { return why_not_; }

  std::unique_ptr<PairLink> step() override {
    std::vector<PairMessage> later;  // of the pair that comes of this
    for (const PairMessage& message : link_->pump()) {
      const bool over = theirs_ || (offer_ && !offer_->possible);
      if (over || std::holds_alternative<Heartbeat>(message))
        later.push_back(message);
      else
        take(message);
    }
    link_->put_back(later);
    const Clock::time_point now = Clock::now();
    if (now >= until_ + kGrace) fail(ExitCode::watchdog, "{}: no word of NCCL", link_->peer());
    if (!offer_) return nullptr;
    if (!offer_->possible) return std::move(link_);
    if (!told_ && why_not_.empty() && now >= until_)
      give_up(fmt::format("not ready in time with {}", link_->peer()));
    if (!told_) ready_ = why_not_.empty() && is_ready();
    // The worker tells first, then the rank decides for both.
    const bool my_turn = (end_ == PairEnd::worker || theirs_) && (ready_ || !why_not_.empty());
    if (!told_ && my_turn) {
      link_->post(NcclVerdict{ready_ && theirs_.value_or(true)});
      told_ = true;
    }
    if (!told_ || !theirs_) return nullptr;
    if (!ready_ || !*theirs_) {
      if (why_not_.empty()) give_up(fmt::format("{} could not", link_->peer()));
      return std::move(link_);
    }
    return std::make_unique<NcclLink>(std::move(link_), end_, std::move(payloads_));
  }

 private:
  void take(const PairMessage& message) {
    if (const auto* offer = std::get_if<NcclOffer>(&message); offer && !offer_) {
      offer_ = *offer;
      if (offer_->possible)
        begin();
      else
        why_not_ = fmt::format("{} has no NCCL, or the same GPU", link_->peer());
    } else if (const auto* verdict = std::get_if<NcclVerdict>(&message); verdict && !theirs_) {
      theirs_ = verdict->ready;
    } else {
      fail(ExitCode::bad_data, "{}: expected an offer or a verdict, found another message",
           link_->peer());
    }
  }

  void begin() {
    try {
      payloads_ = std::make_unique<Payloads>(gpu_, link_->terms());
      payloads_->begin(*offer_, end_, link_->peer());
    } catch (const Error& error) {
      give_up(error.what());
    }
  }
  bool is_ready() {
    try {
      return payloads_ && payloads_->ready();
    } catch (const Error& error) {
      give_up(error.what());
      return false;
    }
  }
  void give_up(const std::string& why) {
    why_not_ = why;
    payloads_.reset();
  }

  std::unique_ptr<PairLink> link_;
  PairEnd end_;
  int gpu_;
  Clock::time_point until_;
  std::optional<NcclOffer> offer_;
  std::unique_ptr<Payloads> payloads_;
  std::optional<bool> theirs_;
  bool ready_ = false, told_ = false;
  std::string why_not_;
};

}  // namespace

uint64_t nccl_gpu_number(int gpu) {
  cudaDeviceProp properties{};
  if (!nccl_available() || cudaGetDeviceProperties(&properties, gpu) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  // Parts of one GPU are one to NCCL: what tells its slot apart, on this host since it was started.
  std::string host;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> host;
  const std::string slot = fmt::format("{} {}:{}:{}", host, properties.pciDomainID,
                                       properties.pciBusID, properties.pciDeviceID);
  return std::max<uint64_t>(1, payload_checksum(slot.data(), slot.size()));
}

std::unique_ptr<NcclUpgrade> begin_nccl_upgrade(std::unique_ptr<PairLink> link, PairEnd end,
                                                int gpu, milliseconds limit) {
  return std::make_unique<Upgrade>(std::move(link), end, gpu, limit);
}

}  // namespace longtake

#endif
