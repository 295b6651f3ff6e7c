// CUDA on the host for the channels' tests: a stream is a thread that works off a queue, "device"
// memory is host memory, handles for other processes are pointers (ranks are threads).
#include <cuda_runtime_api.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "kernels/base/error.h"
#include "kernels/cuda/arena.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/stream.h"
#include "tests/channel_gpu/fakes.h"

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()> > work;
  bool busy = false, ends = false;
  std::thread thread{[this] {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return ends || !work.empty(); });
      if (work.empty()) return;
      const auto next = std::move(work.front());
      work.pop_front();
      busy = true;
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(30));  // work takes time
      next();
      lock.lock();
      busy = false;
      changed.notify_all();
    }
  }};
};

struct CUevent_st {
  std::atomic<int> recorded{0}, done{0};
  int users = 1;
};

namespace longtake::testing {

void issue(cudaStream_t stream, std::function<void()> work) {
  const std::lock_guard lock(stream->mutex);
  stream->work.push_back(std::move(work));
  stream->changed.notify_all();
}

std::atomic<int>& live_allocations() {
  static std::atomic<int> count{0};
  return count;
}

}  // namespace longtake::testing

using longtake::testing::issue;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return cudaSuccess;  // another rank may have it open: it is left
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const int number = ++event->recorded;
  issue(stream, [event, number] { event->done = number; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event->done == event->recorded ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const int number = event->recorded;
  issue(stream, [event, number] {
    while (event->done < number) std::this_thread::yield();
  });
  return cudaSuccess;
}
cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t* handle, cudaEvent_t event) {
  std::memcpy(handle, &event, sizeof event);
  return cudaSuccess;
}
cudaError_t cudaIpcOpenEventHandle(cudaEvent_t* event, cudaIpcEventHandle_t handle) {
  std::memcpy(event, &handle, sizeof *event);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t bytes) {
  *data = std::calloc(bytes, 1);
  ++longtake::testing::live_allocations();
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  --longtake::testing::live_allocations();
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* data) {
  std::memcpy(handle, &data, sizeof data);
  return cudaSuccess;
}
cudaError_t cudaIpcOpenMemHandle(void** data, cudaIpcMemHandle_t handle, unsigned) {
  std::memcpy(data, &handle, sizeof *data);
  return cudaSuccess;
}
cudaError_t cudaIpcCloseMemHandle(void*) {
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  issue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  *p = {};
  p->pciBusID = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return cudaSuccess;
}

}  // extern "C"

namespace longtake::cuda {

void call_failed(cudaError_t, const char* expression, const char*, int) {
  fail(ExitCode::error, "{}", expression);
}
std::vector<DeviceInfo> devices(std::string*) {
  return {DeviceInfo{}};
}

Arena::~Arena() = default;
void* Arena::allocate(size_t bytes) {
  return std::malloc(bytes);
}
void Arena::free(void* data, size_t) {
  std::free(data);
}
class Gemm {};
class UploadRing {};
class Dnn {};

Stream::Stream(int device, Priority) : device_(device), handle_(new CUstream_st) {}
Stream::~Stream() {
  synchronize();
  {
    const std::lock_guard lock(handle_->mutex);
    handle_->ends = true;
    handle_->changed.notify_all();
  }
  handle_->thread.join();
  delete handle_;
}
void Stream::synchronize() {
  std::unique_lock lock(handle_->mutex);
  handle_->changed.wait(lock, [this] { return handle_->work.empty() && !handle_->busy; });
}
void Stream::make_current() const {}

}  // namespace longtake::cuda
