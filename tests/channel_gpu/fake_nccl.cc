// NCCL on the host: communicators of two ranks that carry out every call later, in a thread, and
// refuse a call before the last one has been carried out, as non-blocking communicators do.
#include <nccl.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "kernels/base/error.h"
#include "kernels/cuda/library.h"
#include "tests/channel_gpu/fakes.h"

namespace {

// What the two ranks of a communicator share.
struct Meeting {
  std::atomic<int> ranks{0};
  std::mutex mutex;
  const void* sent = nullptr;  // of a send that waits for its receive
  size_t bytes = 0;
  std::atomic<bool> taken{false};
};

std::mutex meetings_mutex;
std::map<int, std::shared_ptr<Meeting> > meetings;
std::atomic<int> next_id{1};

}  // namespace

struct ncclComm {
  std::shared_ptr<Meeting> meeting;
  std::atomic<bool> busy{false}, aborted{false};
  std::atomic<ncclResult_t> error{ncclSuccess};
  std::atomic<int> in_streams{0};

  template <class Work>
  ncclResult_t later(Work work) {
    if (busy.exchange(true)) return ncclInvalidArgument;
    std::thread([this, work] {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      work();
      busy = false;
    }).detach();
    return ncclInProgress;
  }
};

namespace {

ncclResult_t get_unique_id(ncclUniqueId* id) {
  *id = {};
  const int number = next_id++;
  std::memcpy(id, &number, sizeof number);
  return ncclSuccess;
}

}  // namespace

namespace longtake::testing {

std::atomic<int>& failing_communicators() {
  static std::atomic<int> count{0};
  return count;
}

std::atomic<bool>& broken_network() {
  static std::atomic<bool> broken{false};
  return broken;
}

}  // namespace longtake::testing

namespace {

ncclResult_t init(ncclComm_t* comm, int, ncclUniqueId id, int, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  int number = 0;
  std::memcpy(&number, &id, sizeof number);
  *comm = new ncclComm;
  {
    const std::lock_guard lock(meetings_mutex);
    auto& meeting = meetings[number];
    if (!meeting) meeting = std::make_shared<Meeting>();
    (*comm)->meeting = meeting;
  }
  const bool fails = longtake::testing::failing_communicators() > 0;
  if (fails) --longtake::testing::failing_communicators();
  return (*comm)->later([comm = *comm, fails] {
    if (fails) {
      comm->error = ncclSystemError;
      return;
    }
    ++comm->meeting->ranks;
    while (comm->meeting->ranks < 2 && !comm->aborted) std::this_thread::yield();
  });
}

ncclResult_t async_error(ncclComm_t comm, ncclResult_t* state) {
  *state = comm->busy ? ncclInProgress : comm->error.load();
  if (longtake::testing::broken_network()) *state = ncclRemoteError;
  return ncclSuccess;
}

ncclResult_t abort_comm(ncclComm_t comm) {
  comm->aborted = true;
  while (comm->busy || comm->in_streams > 0) std::this_thread::yield();
  delete comm;
  return ncclSuccess;
}

// The kernel that moves the data spins until the other end's has come.
ncclResult_t send_data(const void* data, size_t bytes, ncclDataType_t, int, ncclComm_t comm,
                       cudaStream_t stream) {
  ++comm->in_streams;
  return comm->later([=] {
    longtake::testing::issue(stream, [=] {
      Meeting& m = *comm->meeting;
      {
        const std::lock_guard lock(m.mutex);
        m.taken = false;
        m.bytes = bytes;
        m.sent = data;
      }
      while (!m.taken && !comm->aborted) std::this_thread::yield();
      --comm->in_streams;
    });
  });
}

ncclResult_t receive(void* data, size_t bytes, ncclDataType_t, int, ncclComm_t comm,
                     cudaStream_t stream) {
  ++comm->in_streams;
  return comm->later([=] {
    longtake::testing::issue(stream, [=] {
      Meeting& m = *comm->meeting;
      for (bool done = false; !done && !comm->aborted; std::this_thread::yield()) {
        const std::lock_guard lock(m.mutex);
        if (!m.sent) continue;
        if (m.bytes != bytes) std::abort();  // undefined in NCCL
        std::memcpy(data, m.sent, bytes);
        m.sent = nullptr;
        m.taken = true;
        done = true;
      }
      --comm->in_streams;
    });
  });
}

const char* text(ncclResult_t) {
  return "an error";
}
const char* last_error(ncclComm_t) {
  return "";
}
ncclResult_t allocate(void** data, size_t bytes) {
  *data = std::calloc(bytes, 1);
  ++longtake::testing::live_allocations();
  return ncclSuccess;
}
ncclResult_t give_back(void* data) {
  --longtake::testing::live_allocations();
  std::free(data);
  return ncclSuccess;
}
ncclResult_t register_buffer(ncclComm_t comm, void*, size_t, void**) {
  return comm->busy ? ncclInvalidArgument : ncclSuccess;
}

}  // namespace

namespace longtake::cuda {

Library::Library(std::initializer_list<const char*>) {}

void* Library::address(const char* symbol) const {
  static const std::map<std::string, void*> all = {
      {"ncclGetUniqueId", reinterpret_cast<void*>(&get_unique_id)},
      {"ncclCommInitRankConfig", reinterpret_cast<void*>(&init)},
      {"ncclCommGetAsyncError", reinterpret_cast<void*>(&async_error)},
      {"ncclCommAbort", reinterpret_cast<void*>(&abort_comm)},
      {"ncclSend", reinterpret_cast<void*>(&send_data)},
      {"ncclRecv", reinterpret_cast<void*>(&receive)},
      {"ncclGetErrorString", reinterpret_cast<void*>(&text)},
      {"ncclGetLastError", reinterpret_cast<void*>(&last_error)},
      {"ncclMemAlloc", reinterpret_cast<void*>(&allocate)},
      {"ncclMemFree", reinterpret_cast<void*>(&give_back)},
      {"ncclCommRegister", reinterpret_cast<void*>(&register_buffer)}};
  return all.at(symbol);
}

}  // namespace longtake::cuda
