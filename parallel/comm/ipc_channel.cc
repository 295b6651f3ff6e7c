#include "parallel/comm/ipc_channel.h"

#include "kernels/base/error.h"

#ifndef LONGTAKE_CUDA

namespace longtake {

namespace {

constexpr const char* kWhy = "this longtake was built without CUDA";

}  // namespace

std::string gpu_identity(int) {
  return "";
}

std::string why_no_ipc(int, const std::string&) {
  return kWhy;
}

std::unique_ptr<Transport> make_ipc_transport(std::unique_ptr<Transport>, cuda::Stream&, Deadline) {
  fail(ExitCode::usage, "parallel.transport: {}", kWhy);
}

}  // namespace longtake

#else

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "parallel/comm/edge_channel.h"
#include "parallel/comm/edge_notes.h"
#include "parallel/comm/gpu_event.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostDepth = 8;
constexpr size_t kAlignment = 256;
constexpr size_t kPage = size_t{2} << 20;  // memory of its own: nothing else is opened with it
constexpr auto kCloseLimit = std::chrono::seconds(2);
constexpr auto kSleep = std::chrono::milliseconds(1);

size_t rounded(size_t bytes, size_t step) {
  return (bytes + step - 1) / step * step;
}

// What the two ends tell each other at the beginning.
struct ChannelShape {
  uint64_t message_bytes;
  int32_t depth;
  bool operator==(const ChannelShape&) const = default;
};
struct SenderOpens {
  ChannelShape shape;
  cudaIpcEventHandle_t copied[kMostDepth];
};
struct ReceiverOpens {
  ChannelShape shape;
  cudaIpcMemHandle_t memory;
  cudaIpcEventHandle_t free[kMostDepth];
};

std::vector<GpuEvent> make_events(int depth) {
  std::vector<GpuEvent> out;
  for (int i = 0; i < depth; ++i) out.emplace_back(GpuEvent::Use::between_processes);
  return out;
}

// Of one end: its own buffers and events, and those of the other end.
class End {
 public:
  End(EdgeContext& context, cuda::Stream& compute, int peer, size_t bytes, int depth)
      : context_(context),
        compute_(compute),
        peer_(peer),
        shape_{bytes, depth},
        stride_(rounded(std::max<size_t>(bytes, 1), kAlignment)),
        own_events_(make_events(depth)) {
    LT_CHECK(0 < depth && depth <= kMostDepth, "a channel of {} buffers, expected 1 to {}", depth,
             kMostDepth);
    void* memory = nullptr;
    LT_CUDA(cudaMalloc(&memory, rounded(stride_ * static_cast<size_t>(depth), kPage)));
    memory_ = static_cast<char*>(memory);
  }
  ~End() {
    if (memory_) (void)cudaFree(memory_);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  Device device() const { return {DeviceType::cuda, compute_.device()}; }

 protected:
  size_t slot_of(int64_t message) const {
    return static_cast<size_t>(message) % own_events_.size();
  }
  void check_shape(const ChannelShape& other) const {
    if (other == shape_) return;
    fail(ExitCode::error, "rank {}: a channel of {} buffers of {} bytes, rank {} has {} of {}",
         context_.control.rank(), shape_.depth, shape_.message_bytes, peer_, other.depth,
         other.message_bytes);
  }
  void wait_for(const GpuEvent& event, const std::string& what) {
    context_.wait(peer_, what, [&] { return event.done(); });
  }

  EdgeContext& context_;
  cuda::Stream& compute_;
  int peer_;
  ChannelShape shape_;
  size_t stride_;
  char* memory_ = nullptr;
  std::vector<GpuEvent> own_events_, other_events_;
};

class SenderEnd : public End {
 public:
  SenderEnd(EdgeContext& context, cuda::Stream& compute, int to, int tag, size_t bytes, int depth)
      : End(context, compute, to, bytes, depth),
        copies_(compute.device(), cuda::Stream::Priority::high),
        notes_(context.control, to, tag, depth),
        opens_(context.control.open_send(to, EdgeTags::sender_opens + tag, sizeof(SenderOpens), 1)),
        opened_(context.control.open_receive(to, EdgeTags::receiver_opens + tag,
                                             sizeof(ReceiverOpens), 1)) {
    SenderOpens opens{shape_, {}};
    for (size_t i = 0; i < own_events_.size(); ++i) opens.copied[i] = own_events_[i].for_another();
    std::memcpy(opens_->acquire("a channel's beginning"), &opens, sizeof opens);
    opens_->send(sizeof opens);
  }

  void finish_opening() {
    ReceiverOpens other;
    std::memcpy(&other, opened_->receive(sizeof other, "a channel's beginning"), sizeof other);
    opened_->release();
    check_shape(other.shape);
    void* memory = nullptr;
    LT_CUDA(cudaIpcOpenMemHandle(&memory, other.memory, cudaIpcMemLazyEnablePeerAccess));
    target_ = static_cast<char*>(memory);
    for (int i = 0; i < shape_.depth; ++i) other_events_.emplace_back(other.free[i]);
  }

  // The receiver's buffer must be free too, since send() does not wait.
  void* acquire(const std::string& what) {
    const int64_t message = notes_.issued();
    if (message >= shape_.depth) {
      notes_.await_released(message - shape_.depth + 1, what);
      wait_for(other_events_[slot_of(message)], what);
    }
    return memory_ + slot_of(message) * stride_;
  }

  // The other process may ask for an event only when it has been recorded: the note comes last.
  void send(size_t bytes) {
    LT_CHECK(bytes <= shape_.message_bytes, "a message of {} bytes in a channel for {}", bytes,
             shape_.message_bytes);
    LT_CHECK(target_, "a channel is used before the transport's ready()");
    const size_t slot = slot_of(notes_.issued());
    filled_.record(compute_.handle());
    filled_.hold(copies_.handle());
    if (bytes > 0)
      LT_CUDA(cudaMemcpyAsync(target_ + slot * stride_, memory_ + slot * stride_, bytes,
                              cudaMemcpyDefault, copies_.handle()));
    own_events_[slot].record(copies_.handle());
    notes_.issue(bytes);
  }

  void flush(const std::string& what) { notes_.await_received(notes_.issued(), what); }

  void close() {
    copies_.synchronize();  // waits for this process's own work only
    if (target_) LT_CUDA(cudaIpcCloseMemHandle(target_));
    target_ = nullptr;
    notes_.close();
  }

 private:
  cuda::Stream copies_;
  SenderNotes notes_;
  std::unique_ptr<SendChannel> opens_;
  std::unique_ptr<ReceiveChannel> opened_;
  GpuEvent filled_;
  char* target_ = nullptr;  // the receiver's memory
};

class ReceiverEnd : public End {
 public:
  ReceiverEnd(EdgeContext& context, cuda::Stream& compute, int from, int tag, size_t bytes,
              int depth)
      : End(context, compute, from, bytes, depth),
        notes_(context.control, from, tag, depth),
        opens_(context.control.open_send(from, EdgeTags::receiver_opens + tag,
                                         sizeof(ReceiverOpens), 1)),
        opened_(context.control.open_receive(from, EdgeTags::sender_opens + tag,
                                             sizeof(SenderOpens), 1)) {
    ReceiverOpens opens{shape_, {}, {}};
    LT_CUDA(cudaIpcGetMemHandle(&opens.memory, memory_));
    for (size_t i = 0; i < own_events_.size(); ++i) opens.free[i] = own_events_[i].for_another();
    std::memcpy(opens_->acquire("a channel's beginning"), &opens, sizeof opens);
    opens_->send(sizeof opens);
  }

  void finish_opening() {
    SenderOpens other;
    std::memcpy(&other, opened_->receive(sizeof other, "a channel's beginning"), sizeof other);
    opened_->release();
    check_shape(other.shape);
    for (int i = 0; i < shape_.depth; ++i) other_events_.emplace_back(other.copied[i]);
  }

  const void* receive(size_t bytes, const std::string& what) {
    const EdgeNote note = notes_.next(what);
    const size_t slot = slot_of(note.message);
    LT_CHECK(slot < other_events_.size(), "a channel is used before the transport's ready()");
    wait_for(other_events_[slot], what);
    notes_.received();
    if (note.bytes != bytes)
      fail(ExitCode::bad_data, "rank {}/{}: {}: expected {} bytes from rank {}, found {}",
           context_.control.rank(), context_.control.ranks(), what, bytes, peer_, note.bytes);
    return memory_ + slot * stride_;
  }

  void release() {
    own_events_[slot_of(notes_.released_count())].record(compute_.handle());
    notes_.released();
  }

  bool arrived() { return notes_.arrived(); }
  bool closed() { return notes_.closed(); }
  // The other process may still have it open: it is left to the end of this one.
  void leave_memory() { memory_ = nullptr; }

 private:
  ReceiverNotes notes_;
  std::unique_ptr<SendChannel> opens_;
  std::unique_ptr<ReceiveChannel> opened_;
};

class IpcTransport : public Transport {
 public:
  IpcTransport(std::unique_ptr<Transport> control, cuda::Stream& compute, Deadline deadline)
      : control_(std::move(control)), context_{*control_, deadline, 0, ""}, compute_(compute) {}

  // First every sender lets go of the receivers' memory, on all ranks; then it can be freed.
  ~IpcTransport() override {
    try {
      for (auto& end : senders_) end->close();
      const Clock::time_point limit = Clock::now() + kCloseLimit;
      for (auto& end : receivers_) {
        while (!end->closed() && Clock::now() < limit) std::this_thread::sleep_for(kSleep);
        if (!end->closed()) end->leave_memory();
      }
    } catch (const std::exception&) {  // a broken control plane: the job is ending
      for (auto& end : receivers_) end->leave_memory();
    }
  }

  Transport& control() override { return *control_; }
  int rank() const override { return control_->rank(); }
  int ranks() const override { return control_->ranks(); }

  std::unique_ptr<SendChannel> open_send(int to, int tag, size_t bytes, int depth) override {
    compute_.make_current();
    senders_.push_back(std::make_unique<SenderEnd>(context_, compute_, to, tag, bytes, depth));
    return std::make_unique<SendOf<SenderEnd> >(*senders_.back());
  }
  std::unique_ptr<ReceiveChannel> open_receive(int from, int tag, size_t bytes,
                                               int depth) override {
    compute_.make_current();
    receivers_.push_back(
        std::make_unique<ReceiverEnd>(context_, compute_, from, tag, bytes, depth));
    return std::make_unique<ReceiveOf<ReceiverEnd> >(*receivers_.back());
  }

  void ready() override {
    for (; ready_senders_ < senders_.size(); ++ready_senders_)
      senders_[ready_senders_]->finish_opening();
    for (; ready_receivers_ < receivers_.size(); ++ready_receivers_)
      receivers_[ready_receivers_]->finish_opening();
  }

  void answer_with(std::function<std::string()> doing) override {
    control_->answer_with(std::move(doing));
  }
  std::string in_flight() override { return control_->in_flight(); }
  void progress() override { control_->progress(); }
  double wait_seconds() const override { return context_.wait_s + control_->wait_seconds(); }

 private:
  std::unique_ptr<Transport> control_;
  EdgeContext context_;
  cuda::Stream& compute_;
  std::vector<std::unique_ptr<SenderEnd> > senders_;
  std::vector<std::unique_ptr<ReceiverEnd> > receivers_;
  size_t ready_senders_ = 0, ready_receivers_ = 0;
};

}  // namespace

std::string gpu_identity(int device) {
  cudaDeviceProp p{};
  LT_CUDA(cudaGetDeviceProperties(&p, device));
  std::string out = "GPU-";
  for (const char byte : p.uuid.bytes)
    out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return out;
}

std::string why_no_ipc(int device, const std::string& other_identity) {
  int events = 0;
  LT_CUDA(cudaDeviceGetAttribute(&events, cudaDevAttrIpcEventSupport, device));
  if (events == 0) return fmt::format("GPU {} has no events between processes", device);
  const auto count = static_cast<int>(cuda::devices().size());
  for (int other = 0; other < count; ++other) {
    if (gpu_identity(other) != other_identity) continue;
    int access = 1;
    if (other != device) LT_CUDA(cudaDeviceCanAccessPeer(&access, device, other));
    return access != 0 ? "" : fmt::format("GPU {} has no access to GPU {}", device, other);
  }
  return fmt::format("{} is not seen by the process of GPU {}", other_identity, device);
}

std::unique_ptr<Transport> make_ipc_transport(std::unique_ptr<Transport> control,
                                              cuda::Stream& compute, Deadline deadline) {
  return std::make_unique<IpcTransport>(std::move(control), compute, deadline);
}

}  // namespace longtake

#endif
