#include "parallel/comm/mpi_channel.h"

#include <mpi.h>

#include <limits>
#include <thread>
#include <vector>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"
#include "parallel/comm/mpi_inquiry.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

// After some turns of polling the core is left to others: ranks may share it, and a low-priority
// thread decodes finished blocks while this one waits.
constexpr int kSpins = 200;
constexpr auto kSleep = std::chrono::microseconds(50);

struct Progress {
  int rank = 0, ranks = 1;
  Deadline deadline;
  MpiInquiry inquiry{rank, ranks};
  double wait_s = 0;

  // Polls until the request is done; the seconds count as waiting.
  void wait(MPI_Request& request, MPI_Status& status, int peer, const std::string& what) {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, &status), "MPI_Test");
    if (done != 0) return;
    const Clock::time_point start = Clock::now();
    for (int turns = 0; done == 0; ++turns) {
      check_mpi(MPI_Test(&request, &done, &status), "MPI_Test");
      if (turns < kSpins) continue;
      inquiry.answer();
      if (Clock::now() - start >= deadline.limit)
        fail(ExitCode::watchdog, "rank {}/{}: {}: nothing from rank {} in {:.1f} s; in flight: {}",
             rank, ranks, what, peer, std::chrono::duration<double>(deadline.limit).count(),
             inquiry.ask());
      std::this_thread::sleep_for(kSleep);
    }
    wait_s += std::chrono::duration<double>(Clock::now() - start).count();
  }
};

// `bytes` bytes as one count of one type: MPI's counts are int, a hop of a 14B model at 720p is
// more.
class MessageType {
 public:
  explicit MessageType(size_t bytes) {
    constexpr size_t piece = size_t{1} << 20;
    if (bytes <= static_cast<size_t>(std::numeric_limits<int>::max())) {
      count_ = static_cast<int>(bytes);
      return;
    }
    MPI_Datatype whole;
    check_mpi(MPI_Type_contiguous(static_cast<int>(piece), MPI_BYTE, &whole),
              "MPI_Type_contiguous");
    const int counts[2] = {static_cast<int>(bytes / piece), static_cast<int>(bytes % piece)};
    const MPI_Aint offsets[2] = {0, static_cast<MPI_Aint>(bytes / piece * piece)};
    const MPI_Datatype types[2] = {whole, MPI_BYTE};
    check_mpi(MPI_Type_create_struct(2, counts, offsets, types, &type_), "MPI_Type_create_struct");
    check_mpi(MPI_Type_commit(&type_), "MPI_Type_commit");
    check_mpi(MPI_Type_free(&whole), "MPI_Type_free");
    count_ = 1;
  }
  ~MessageType() {
    if (type_ != MPI_BYTE) MPI_Type_free(&type_);
  }
  MessageType(const MessageType&) = delete;
  MessageType& operator=(const MessageType&) = delete;

  MPI_Datatype type() const { return type_; }
  int count() const { return count_; }

 private:
  MPI_Datatype type_ = MPI_BYTE;
  int count_ = 0;
};

struct Slot {
  Buffer buffer;
  MPI_Request request = MPI_REQUEST_NULL;
};

std::vector<Slot> make_slots(size_t bytes, int depth) {
  std::vector<Slot> slots(static_cast<size_t>(depth));
  for (Slot& slot : slots) slot.buffer = Buffer(bytes);
  return slots;
}

class MpiSend : public SendChannel {
 public:
  MpiSend(Progress& progress, int to, int tag, size_t bytes, int depth)
      : progress_(progress), to_(to), tag_(tag), slots_(make_slots(bytes, depth)) {}

  void* acquire(const std::string& what) override {
    next_ = (next_ + 1) % slots_.size();
    finish(slots_[next_], what);
    return slots_[next_].buffer.data();
  }

  void send(size_t bytes) override {
    Slot& slot = slots_[next_];
    LT_CHECK(bytes <= slot.buffer.bytes(), "a message of {} bytes in a channel for {}", bytes,
             slot.buffer.bytes());
    const MessageType message(bytes);  // a type in use outlives its handle
    check_mpi(MPI_Isend(slot.buffer.data(), message.count(), message.type(), to_, tag_,
                        MPI_COMM_WORLD, &slot.request),
              "MPI_Isend");
  }

  void flush(const std::string& what) override {
    for (Slot& slot : slots_) finish(slot, what);
  }

 private:
  void finish(Slot& slot, const std::string& what) {
    MPI_Status status;
    if (slot.request != MPI_REQUEST_NULL) progress_.wait(slot.request, status, to_, what);
  }

  Progress& progress_;
  int to_, tag_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
};

class MpiReceive : public ReceiveChannel {
 public:
  MpiReceive(Progress& progress, int from, int tag, size_t bytes, int depth)
      : progress_(progress), from_(from), tag_(tag), slots_(make_slots(bytes, depth)) {
    for (Slot& slot : slots_) post(slot);
  }
  ~MpiReceive() override {
    for (Slot& slot : slots_) {
      if (slot.request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&slot.request);
      MPI_Request_free(&slot.request);
    }
  }

  const void* receive(size_t bytes, const std::string& what) override {
    Slot& slot = slots_[next_];
    MPI_Status status;
    progress_.wait(slot.request, status, from_, what);
    MPI_Count found = 0;
    check_mpi(MPI_Get_elements_x(&status, MPI_BYTE, &found), "MPI_Get_elements_x");
    if (static_cast<size_t>(found) != bytes)
      fail(ExitCode::bad_data, "rank {}/{}: {}: expected {} bytes from rank {}, found {}",
           progress_.rank, progress_.ranks, what, bytes, from_, found);
    return slot.buffer.data();
  }

  void release() override {
    post(slots_[next_]);
    next_ = (next_ + 1) % slots_.size();
  }

  bool arrived() override {
    if (slots_[next_].request == MPI_REQUEST_NULL) return false;  // it is being read
    int done = 0;
    check_mpi(MPI_Request_get_status(slots_[next_].request, &done, MPI_STATUS_IGNORE),
              "MPI_Request_get_status");
    return done != 0;
  }

 private:
  void post(Slot& slot) {
    const MessageType message(slot.buffer.bytes());
    check_mpi(MPI_Irecv(slot.buffer.data(), message.count(), message.type(), from_, tag_,
                        MPI_COMM_WORLD, &slot.request),
              "MPI_Irecv");
  }

  Progress& progress_;
  int from_, tag_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
};

class MpiTransport : public Transport {
 public:
  MpiTransport(int rank, int ranks, Deadline deadline) : progress_{rank, ranks, deadline} {}
  int rank() const override { return progress_.rank; }
  int ranks() const override { return progress_.ranks; }
  std::unique_ptr<SendChannel> open_send(int to, int tag, size_t bytes, int depth) override {
    return std::make_unique<MpiSend>(progress_, to, tag, bytes, depth);
  }
  std::unique_ptr<ReceiveChannel> open_receive(int from, int tag, size_t bytes,
                                               int depth) override {
    return std::make_unique<MpiReceive>(progress_, from, tag, bytes, depth);
  }
  void answer_with(std::function<std::string()> doing) override {
    progress_.inquiry.answer_with(std::move(doing));
  }
  std::string in_flight() override { return progress_.inquiry.ask(); }
  void progress() override { progress_.inquiry.answer(); }
  double wait_seconds() const override { return progress_.wait_s; }

 private:
  Progress progress_;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(int rank, int ranks, Deadline deadline) {
  return std::make_unique<MpiTransport>(rank, ranks, deadline);
}

}  // namespace longtake
