#include "parallel/comm/nccl_channel.h"

#include "kernels/base/error.h"

#ifndef LONGTAKE_NCCL

namespace longtake {

bool nccl_available(std::string* why) {
  if (why) *why = "this longtake was built without NCCL";
  return false;
}

std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport>, cuda::Stream&,
                                               Deadline) {
  fail(ExitCode::usage, "parallel.transport: this longtake was built without NCCL");
}

}  // namespace longtake

#else

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <tuple>
#include <vector>

#include "parallel/comm/edge_channel.h"
#include "parallel/comm/edge_notes.h"
#include "parallel/comm/gpu_event.h"
#include "parallel/comm/nccl_library.h"

namespace longtake {

namespace {

constexpr size_t kGreeting = 8;
constexpr auto kAbortLimit = std::chrono::seconds(10);

const NcclLibrary& nccl() {
  return NcclLibrary::get();
}

struct Slot {
  char* data = nullptr;
  GpuEvent moved, used;  // NCCL is done with it; the compute stream is done with it
};

// One end of an edge. Calls of NCCL return at once; wait() polls.
class End {
 public:
  // The sender has index 0, the receiver 1.
  End(EdgeContext& context, cuda::Stream& compute, int peer, int index, int tag, size_t bytes,
      int depth)
      : context_(context),
        compute_(compute),
        peer_(peer),
        index_(index),
        tag_(tag),
        bytes_(std::max<size_t>(bytes, 1)),
        stream_(compute.device(), cuda::Stream::Priority::high),
        slots_(static_cast<size_t>(depth)) {}
  virtual ~End() {
    for (Slot& slot : slots_)
      if (slot.data) (void)nccl().free(slot.data);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  // One order of all edges, the same on every rank; neighbours of a line open two by two.
  std::tuple<int, int, int, int> order() const {
    const int here = context_.control.rank();
    const int from = index_ == 0 ? here : peer_, to = index_ == 0 ? peer_ : here;
    return {tag_, from % 2, from, to};
  }

  // Makes the communicator and connects the two ends by a first message; waits for the other end.
  void open() {
    const ncclUniqueId id = shared_id();
    nccl().begin_pair(&comm_, id, index_, who());
    settle("a communicator");
    for (Slot& slot : slots_) {
      accept(nccl().allocate(reinterpret_cast<void**>(&slot.data), bytes_), "ncclMemAlloc");
      void* handle = nullptr;
      accept(nccl().register_buffer(comm_, slot.data, bytes_, &handle), "ncclCommRegister");
    }
    move(slots_[0], std::min(bytes_, kGreeting), "a connection");
    wait_moved(slots_[0], "a connection");
  }

  ncclComm_t communicator() const { return comm_; }
  Device device() const { return {DeviceType::cuda, stream_.device()}; }

 protected:
  virtual ncclUniqueId shared_id() = 0;

  std::string who() const {
    return fmt::format("rank {}: NCCL with rank {}", context_.control.rank(), peer_);
  }
  void accept(ncclResult_t result, const char* call) const {
    nccl().accept(result, call, comm_, who());
  }
  bool settled() const { return nccl().settled(comm_, who()); }
  void settle(const std::string& what) {
    context_.wait(peer_, what, [this] { return settled(); });
  }
  // Sends or receives, when the compute stream is done with the slot.
  void move(Slot& slot, size_t bytes, const std::string& what) {
    slot.used.hold(stream_.handle());
    if (bytes > 0) {
      accept(index_ == 0 ? nccl().send(slot.data, bytes, ncclUint8, 1, comm_, stream_.handle())
                         : nccl().receive(slot.data, bytes, ncclUint8, 0, comm_, stream_.handle()),
             index_ == 0 ? "ncclSend" : "ncclRecv");
      settle(what);
    }
    slot.moved.record(stream_.handle());
  }
  void wait_moved(const Slot& slot, const std::string& what) {
    context_.wait(peer_, what, [&] {
      (void)settled();  // for its errors
      return slot.moved.done();
    });
  }
  Slot& slot_of(int64_t message) { return slots_[static_cast<size_t>(message) % slots_.size()]; }
  int64_t depth() const { return static_cast<int64_t>(slots_.size()); }

  EdgeContext& context_;
  cuda::Stream& compute_;
  int peer_, index_, tag_;
  size_t bytes_;
  cuda::Stream stream_;
  ncclComm_t comm_ = nullptr;
  std::vector<Slot> slots_;
};

class SenderEnd : public End {
 public:
  SenderEnd(EdgeContext& context, cuda::Stream& compute, int to, int tag, size_t bytes, int depth)
      : End(context, compute, to, 0, tag, bytes, depth),
        notes_(context.control, to, tag, depth),
        introduction_(
            context.control.open_send(to, EdgeTags::sender_opens + tag, sizeof(ncclUniqueId), 1)) {
    accept(nccl().get_unique_id(&id_), "ncclGetUniqueId");
    std::memcpy(introduction_->acquire("a channel's beginning"), &id_, sizeof id_);
    introduction_->send(sizeof id_);
  }

  void* acquire(const std::string& what) {
    const int64_t message = notes_.issued();
    Slot& slot = slot_of(message);
    if (message >= depth()) {
      notes_.await_received(message - depth() + 1, what);
      wait_moved(slot, what);
    }
    return slot.data;
  }

  void send(size_t bytes) {
    LT_CHECK(bytes <= bytes_, "a message of {} bytes in a channel for {}", bytes, bytes_);
    Slot& slot = slot_of(notes_.issued());
    LT_CHECK(slot.data, "a channel is used before the transport's ready()");
    slot.used.record(compute_.handle());
    move(slot, bytes, "a message to be sent");
    notes_.issue(bytes);
  }

  // What has left this GPU may still lie in NCCL: the other end says when it is there.
  void flush(const std::string& what) { notes_.await_received(notes_.issued(), what); }

 protected:
  ncclUniqueId shared_id() override { return id_; }

 private:
  SenderNotes notes_;
  std::unique_ptr<SendChannel> introduction_;
  ncclUniqueId id_{};
};

class ReceiverEnd : public End {
 public:
  ReceiverEnd(EdgeContext& context, cuda::Stream& compute, int from, int tag, size_t bytes,
              int depth)
      : End(context, compute, from, 1, tag, bytes, depth),
        notes_(context.control, from, tag, depth),
        introduction_(context.control.open_receive(from, EdgeTags::sender_opens + tag,
                                                   sizeof(ncclUniqueId), 1)) {}

  const void* receive(size_t bytes, const std::string& what) {
    if (posted_.empty()) post(what);
    const EdgeNote note = posted_.front();
    posted_.pop_front();
    wait_moved(slot_of(note.message), what);
    notes_.received();
    if (note.bytes != bytes)
      fail(ExitCode::bad_data, "rank {}/{}: {}: expected {} bytes from rank {}, found {}",
           context_.control.rank(), context_.control.ranks(), what, bytes, peer_, note.bytes);
    return slot_of(note.message).data;
  }

  void release() { slot_of(released_++).used.record(compute_.handle()); }
  bool arrived() { return !posted_.empty() && slot_of(posted_.front().message).moved.done(); }

  // Issues the receives of messages that are under way, as far as there are free slots.
  void post_arrived() {
    while (comm_ && issued_ - released_ < depth() && notes_.arrived()) post("the next message");
  }

 protected:
  ncclUniqueId shared_id() override {
    ncclUniqueId id;
    std::memcpy(&id, introduction_->receive(sizeof id, "a channel's beginning"), sizeof id);
    introduction_->release();
    return id;
  }

 private:
  void post(const std::string& what) {
    const EdgeNote note = notes_.next(what);
    Slot& slot = slot_of(note.message);
    LT_CHECK(slot.data, "a channel is used before the transport's ready()");
    LT_CHECK(note.bytes <= bytes_, "a message of {} bytes in a channel for {}", note.bytes, bytes_);
    move(slot, note.bytes, what);
    posted_.push_back(note);
    ++issued_;
  }

  ReceiverNotes notes_;
  std::unique_ptr<ReceiveChannel> introduction_;
  std::deque<EdgeNote> posted_;  // receives that are under way
  int64_t issued_ = 0, released_ = 0;
};

class NcclTransport : public Transport {
 public:
  NcclTransport(std::unique_ptr<Transport> control, cuda::Stream& compute, Deadline deadline)
      : control_(std::move(control)), context_{*control_, deadline, 0, ""}, compute_(compute) {}

  // Work of a dead peer never ends, and every later call on this GPU would wait for it.
  ~NcclTransport() override {
    std::vector<ncclComm_t> communicators;
    for (const auto& end : senders_) communicators.push_back(end->communicator());
    for (const auto& end : receivers_) communicators.push_back(end->communicator());
    std::erase(communicators, nullptr);
    if (nccl().abort_all(communicators, kAbortLimit)) return;
    std::fprintf(stderr, "rank %d: NCCL could not be ended in %d s. %s\n", rank(),
                 static_cast<int>(kAbortLimit.count()), context_.last_error.c_str());
    std::fflush(nullptr);
    _exit(static_cast<int>(ExitCode::watchdog));
  }

  Transport& control() override { return *control_; }
  int rank() const override { return control_->rank(); }
  int ranks() const override { return control_->ranks(); }

  std::unique_ptr<SendChannel> open_send(int to, int tag, size_t bytes, int depth) override {
    compute_.make_current();
    senders_.push_back(std::make_unique<SenderEnd>(context_, compute_, to, tag, bytes, depth));
    opening_.push_back(senders_.back().get());
    return std::make_unique<SendOf<SenderEnd> >(*senders_.back());
  }

  std::unique_ptr<ReceiveChannel> open_receive(int from, int tag, size_t bytes,
                                               int depth) override {
    compute_.make_current();
    receivers_.push_back(
        std::make_unique<ReceiverEnd>(context_, compute_, from, tag, bytes, depth));
    opening_.push_back(receivers_.back().get());
    return std::make_unique<ReceiveOf<ReceiverEnd> >(*receivers_.back());
  }

  void ready() override {
    std::sort(opening_.begin(), opening_.end(),
              [](const End* a, const End* b) { return a->order() < b->order(); });
    for (End* end : opening_) end->open();
    opening_.clear();
  }

  void answer_with(std::function<std::string()> doing) override {
    control_->answer_with(std::move(doing));
  }
  std::string in_flight() override { return control_->in_flight(); }
  void progress() override {
    control_->progress();
    for (const auto& end : receivers_) end->post_arrived();
  }
  double wait_seconds() const override { return context_.wait_s + control_->wait_seconds(); }

 private:
  std::unique_ptr<Transport> control_;
  EdgeContext context_;
  cuda::Stream& compute_;
  std::vector<std::unique_ptr<SenderEnd> > senders_;
  std::vector<std::unique_ptr<ReceiverEnd> > receivers_;
  std::vector<End*> opening_;  // until they are ready
};

}  // namespace

bool nccl_available(std::string* why) {
  try {
    (void)nccl();
    return true;
  } catch (const Error& error) {
    if (why) *why = error.what();
    return false;
  }
}

std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport> control,
                                               cuda::Stream& compute, Deadline deadline) {
  return std::make_unique<NcclTransport>(std::move(control), compute, deadline);
}

}  // namespace longtake

#endif
