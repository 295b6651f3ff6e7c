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

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/cuda/check.h"
#include "parallel/comm/nccl_library.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

// A message lies behind a header that holds its length; NCCL itself moves whole slots, since a
// receive that was posted ahead does not know what will come.
constexpr size_t kHeader = 256;
constexpr int kMostCtas = 4;  // of a GPU's multiprocessors, per edge
constexpr int kIdTag = 500;   // of control messages: beside the tags of the payloads
constexpr auto kAbortLimit = std::chrono::seconds(10);
constexpr int kSpins = 2000;
constexpr auto kSleep = std::chrono::microseconds(20);

const NcclLibrary& nccl() {
  return NcclLibrary::get();
}

struct Shared {
  Transport& control;
  cuda::Stream& compute;
  Deadline deadline;
  double wait_s = 0;
};

// A GPU's event without timing.
class Event {
 public:
  Event() { LT_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { LT_CUDA(cudaEventRecord(event_, stream)); }
  void hold(cudaStream_t stream) { LT_CUDA(cudaStreamWaitEvent(stream, event_, 0)); }
  bool done() const {
    const cudaError_t state = cudaEventQuery(event_);
    if (state != cudaErrorNotReady) LT_CUDA(state);
    return state == cudaSuccess;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

struct Slot {
  char* data = nullptr;        // header and message
  uint64_t* length = nullptr;  // pinned host memory: of the message that goes or came
  Event moved, used;           // NCCL is done with it; the compute stream is done with it
};

// One end of an edge. Everything is issued without waiting; wait() polls.
class End {
 public:
  End(Shared& shared, int peer, int index, const ncclUniqueId& id, size_t bytes, int depth)
      : shared_(shared),
        peer_(peer),
        slot_bytes_(kHeader + bytes),
        stream_(shared.compute.device(), cuda::Stream::Priority::high),
        slots_(static_cast<size_t>(depth)) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.minCTAs = 1;
    config.maxCTAs = kMostCtas;
    accept(nccl().init(&comm_, 2, id, index, &config), "ncclCommInitRankConfig");
    for (Slot& slot : slots_) {
      accept(nccl().allocate(reinterpret_cast<void**>(&slot.data), slot_bytes_), "ncclMemAlloc");
      LT_CUDA(cudaMallocHost(reinterpret_cast<void**>(&slot.length), sizeof(uint64_t)));
      *slot.length = 0;
    }
  }

  // Receives that were posted ahead are under way for ever: they are aborted. An abort that hangs
  // is left behind after a while.
  virtual ~End() {
    if (comm_) {
      std::thread killer([abort = nccl().abort, comm = comm_, done = aborted_] {
        (void)abort(comm);
        done->store(true);
      });
      const Clock::time_point limit = Clock::now() + kAbortLimit;
      while (!aborted_->load() && Clock::now() < limit) std::this_thread::sleep_for(kSleep);
      if (!aborted_->load()) {
        killer.detach();
        return;  // its buffers are still in use
      }
      killer.join();
    }
    for (Slot& slot : slots_) {
      if (slot.data) (void)nccl().free(slot.data);
      if (slot.length) (void)cudaFreeHost(slot.length);
    }
  }

  // Has what was issued last been taken on? Fails on an error of NCCL.
  bool settled() const {
    ncclResult_t state = ncclSuccess;
    accept(nccl().async_error(comm_, &state), "ncclCommGetAsyncError");
    accept(state, "NCCL");
    return state != ncclInProgress;
  }
  virtual void greet() = 0;       // issues the first message, which connects the two ends
  virtual void post_ahead() = 0;  // after that
  void register_slots() {
    for (Slot& slot : slots_) {
      void* handle = nullptr;
      accept(nccl().register_buffer(comm_, slot.data, slot_bytes_, &handle), "ncclCommRegister");
    }
  }

  void wait(const std::string& what, const std::function<bool()>& done) const {
    if (done()) return;
    const Clock::time_point start = Clock::now();
    for (int turns = 0; !done(); ++turns) {
      if (turns < kSpins) continue;
      (void)settled();
      shared_.control.progress();
      if (Clock::now() - start >= shared_.deadline.limit)
        fail(ExitCode::watchdog, "rank {}/{}: {}: nothing from rank {} in {:.1f} s; in flight: {}",
             shared_.control.rank(), shared_.control.ranks(), what, peer_,
             std::chrono::duration<double>(shared_.deadline.limit).count(),
             shared_.control.in_flight());
      std::this_thread::sleep_for(kSleep);
    }
    shared_.wait_s += std::chrono::duration<double>(Clock::now() - start).count();
  }

 protected:
  void accept(ncclResult_t result, const char* call) const {
    if (result == ncclSuccess || result == ncclInProgress) return;
    fail(ExitCode::error, "rank {}: {} with rank {}: {}", shared_.control.rank(), call, peer_,
         nccl().error_string(result));
  }
  void settle(const char* what) const {
    wait(what, [this] { return settled(); });
  }
  void send_slot(Slot& slot) {
    accept(nccl().send(slot.data, slot_bytes_, ncclUint8, 1, comm_, stream_.handle()), "ncclSend");
  }
  void receive_slot(Slot& slot) {
    accept(nccl().receive(slot.data, slot_bytes_, ncclUint8, 0, comm_, stream_.handle()),
           "ncclRecv");
  }

  Shared& shared_;
  int peer_;
  size_t slot_bytes_;
  cuda::Stream stream_;
  ncclComm_t comm_ = nullptr;
  std::vector<Slot> slots_;
  size_t next_ = 0;
  std::shared_ptr<std::atomic<bool> > aborted_ = std::make_shared<std::atomic<bool> >(false);
};

class NcclSend : public SendChannel, public End {
 public:
  using End::End;

  void* acquire(const std::string& what) override {
    next_ = (next_ + 1) % slots_.size();
    wait(what, [this] { return slots_[next_].moved.done(); });
    return slots_[next_].data + kHeader;
  }

  void send(size_t bytes) override {
    Slot& slot = slots_[next_];
    LT_CHECK(kHeader + bytes <= slot_bytes_, "a message of {} bytes in a channel for {}", bytes,
             slot_bytes_ - kHeader);
    *slot.length = bytes;
    LT_CUDA(cudaMemcpyAsync(slot.data, slot.length, sizeof *slot.length, cudaMemcpyHostToDevice,
                            shared_.compute.handle()));
    slot.used.record(shared_.compute.handle());
    slot.used.hold(stream_.handle());
    send_slot(slot);
    settle("a message's send");
    slot.moved.record(stream_.handle());
  }

  void flush(const std::string& what) override {
    for (Slot& slot : slots_) wait(what, [&] { return slot.moved.done(); });
  }
  Device device() const override { return {DeviceType::cuda, stream_.device()}; }

  void greet() override { send_slot(slots_[0]); }
  void post_ahead() override {}
};

class NcclReceive : public ReceiveChannel, public End {
 public:
  using End::End;

  const void* receive(size_t bytes, const std::string& what) override {
    Slot& slot = slots_[next_];
    wait(what, [&] { return slot.moved.done(); });
    if (*slot.length != bytes)
      fail(ExitCode::bad_data, "rank {}/{}: {}: expected {} bytes from rank {}, found {}",
           shared_.control.rank(), shared_.control.ranks(), what, bytes, peer_, *slot.length);
    return slot.data + kHeader;
  }

  void release() override {
    Slot& slot = slots_[next_];
    slot.used.record(shared_.compute.handle());
    slot.used.hold(stream_.handle());
    post(slot);
    next_ = (next_ + 1) % slots_.size();
  }
  Device device() const override { return {DeviceType::cuda, stream_.device()}; }

  void greet() override { receive_slot(slots_[0]); }
  void post_ahead() override {
    for (Slot& slot : slots_) post(slot);
  }

 private:
  void post(Slot& slot) {
    receive_slot(slot);
    settle("a receive to be posted");
    LT_CUDA(cudaMemcpyAsync(slot.length, slot.data, sizeof *slot.length, cudaMemcpyDeviceToHost,
                            stream_.handle()));
    slot.moved.record(stream_.handle());
  }
};

class NcclTransport : public Transport {
 public:
  NcclTransport(std::unique_ptr<Transport> control, cuda::Stream& compute, Deadline deadline)
      : control_(std::move(control)), shared_{*control_, compute, deadline} {}

  Transport& control() override { return *control_; }
  int rank() const override { return control_->rank(); }
  int ranks() const override { return control_->ranks(); }

  std::unique_ptr<SendChannel> open_send(int to, int tag, size_t bytes, int depth) override {
    ncclUniqueId id;
    if (const ncclResult_t error = nccl().get_unique_id(&id); error != ncclSuccess)
      fail(ExitCode::error, "ncclGetUniqueId: {}", nccl().error_string(error));
    introductions_.push_back(control_->open_send(to, kIdTag + tag, sizeof id, 1));
    std::memcpy(introductions_.back()->acquire("a channel's beginning"), &id, sizeof id);
    introductions_.back()->send(sizeof id);
    auto out = std::make_unique<NcclSend>(shared_, to, 0, id, bytes, depth);
    ends_.push_back(out.get());
    return out;
  }

  std::unique_ptr<ReceiveChannel> open_receive(int from, int tag, size_t bytes,
                                               int depth) override {
    const auto introduction = control_->open_receive(from, kIdTag + tag, sizeof(ncclUniqueId), 1);
    ncclUniqueId id;
    std::memcpy(&id, introduction->receive(sizeof id, "a channel's beginning"), sizeof id);
    auto out = std::make_unique<NcclReceive>(shared_, from, 1, id, bytes, depth);
    ends_.push_back(out.get());
    return out;
  }

  // All ends at once: one after the other, two ranks could wait for each other.
  void ready() override {
    settle_all("communicators");
    for (End* end : ends_) end->register_slots();
    for (End* end : ends_) end->greet();
    settle_all("connections");
    for (End* end : ends_) end->post_ahead();
    ends_.clear();
  }

  void answer_with(std::function<std::string()> doing) override {
    control_->answer_with(std::move(doing));
  }
  std::string in_flight() override { return control_->in_flight(); }
  void progress() override { control_->progress(); }
  double wait_seconds() const override { return shared_.wait_s; }

 private:
  void settle_all(const char* what) {
    if (ends_.empty()) return;
    ends_.front()->wait(what, [this] {
      return std::all_of(ends_.begin(), ends_.end(), [](End* end) { return end->settled(); });
    });
  }

  std::unique_ptr<Transport> control_;
  Shared shared_;
  std::vector<std::unique_ptr<SendChannel> > introductions_;  // until they have left
  std::vector<End*> ends_;                                    // until they are ready
};

}  // namespace

NcclLibrary::NcclLibrary() {
  library.load(get_unique_id, "ncclGetUniqueId");
  library.load(init, "ncclCommInitRankConfig");
  library.load(async_error, "ncclCommGetAsyncError");
  library.load(abort, "ncclCommAbort");
  library.load(send, "ncclSend");
  library.load(receive, "ncclRecv");
  library.load(error_string, "ncclGetErrorString");
  library.load(allocate, "ncclMemAlloc");
  library.load(free, "ncclMemFree");
  library.load(register_buffer, "ncclCommRegister");
}

const NcclLibrary& NcclLibrary::get() {
  static const NcclLibrary library;
  return library;
}

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
