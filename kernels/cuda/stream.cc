#include "kernels/cuda/stream.h"

#include "kernels/base/error.h"
#include "kernels/base/stream.h"
#include "kernels/cuda/arena.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/quiet.h"
#include "kernels/cuda/upload_ring.h"

namespace longtake::cuda {

void call_failed(cudaError_t error, const char* expression, const char* file, int line) {
  fail(ExitCode::error, "{}:{}: {}: CUDA says {} ({})", file, line, expression,
       cudaGetErrorName(error), cudaGetErrorString(error));
}

namespace {

DeviceInfo info_of(int device) {
  cudaDeviceProp p{};
  LT_CUDA(cudaGetDeviceProperties(&p, device));
  return {p.name,           p.major, p.minor, p.multiProcessorCount, p.sharedMemPerBlockOptin,
          p.totalGlobalMem, 0};
}

}  // namespace

bool compiled_in() {
  return true;
}

std::vector<DeviceInfo> devices(std::string* why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    if (why)
      *why = error == cudaErrorInsufficientDriver
                 ? fmt::format("no NVIDIA driver, or one too old for CUDA {}.{}",
                               CUDART_VERSION / 1000, CUDART_VERSION / 10 % 100)
                 : cudaGetErrorString(error);
    return {};
  }
  if (count == 0 && why) *why = "no GPU";
  std::vector<DeviceInfo> out;
  for (int i = 0; i < count; ++i) out.push_back(info_of(i));
  return out;
}

size_t free_bytes(int device) {
  const DeviceWide quiet;
  size_t free = 0, total = 0;
  LT_CUDA(cudaSetDevice(device));
  LT_CUDA(cudaMemGetInfo(&free, &total));
  return free;
}

std::string library_versions() {
  const size_t version = CublasLt::get().version();
  return fmt::format("cuBLASLt {}", version);
}

Stream::Stream(int device, Priority priority) : device_(device) {
  std::string why;
  const std::vector<DeviceInfo> all = devices(&why);
  if (device < 0 || device >= static_cast<int>(all.size()))
    fail(ExitCode::usage, "no GPU {}: {}", device,
         all.empty() ? why : fmt::format("there are {}", all.size()));
  info_ = all[static_cast<size_t>(device)];
  const DeviceWide quiet;
  info_.free_bytes = longtake::cuda::free_bytes(device);
  int least = 0, greatest = 0;
  LT_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  LT_CUDA(cudaStreamCreateWithPriority(&handle_, cudaStreamNonBlocking,
                                       priority == Priority::high ? greatest : least));
  arena_ = std::make_unique<Arena>(device, info_.name.c_str());
}

Stream::~Stream() {
  upload_ring_.reset();
  const DeviceWide quiet;
  gemm_.reset();  // they hold the stream
  dnn_.reset();
  if (handle_) {
    (void)cudaStreamSynchronize(handle_);
    for (cudaEvent_t event : events_) (void)cudaEventDestroy(event);
    (void)cudaStreamDestroy(handle_);
  }
}

DeviceMemory& Stream::memory() {
  return *arena_;
}

void Stream::make_current() const {
  LT_CUDA(cudaSetDevice(device_));
}

void Stream::synchronize() {
  LT_CUDA(cudaStreamSynchronize(handle_));
  for (const Interval& i : intervals_) {
    float milliseconds = 0;
    LT_CUDA(cudaEventElapsedTime(&milliseconds, events_[static_cast<size_t>(i.begin)],
                                 events_[static_cast<size_t>(i.end)]));
    *i.to += 1e-3 * static_cast<double>(milliseconds);
  }
  intervals_.clear();
  events_used_ = 0;
}

int Stream::record_event() {
  if (events_used_ == events_.size()) {
    cudaEvent_t event = nullptr;
    LT_CUDA(cudaEventCreate(&event));
    events_.push_back(event);
  }
  LT_CUDA(cudaEventRecord(events_[events_used_], handle_));
  return static_cast<int>(events_used_++);
}

int Stream::begin_interval() {
  return record_event();
}

void Stream::end_interval(int begin, double* to) {
  intervals_.push_back({begin, record_event(), to});
}

int begin_interval(Stream& stream) {
  return stream.begin_interval();
}

void end_interval(Stream& stream, int begin, double* to) {
  stream.end_interval(begin, to);
}

Gemm& Stream::gemm() {
  if (!gemm_) {
    const DeviceWide quiet;
    gemm_ = std::make_unique<Gemm>(*this);
  }
  return *gemm_;
}

Dnn& Stream::dnn() {
  if (!dnn_) {
    const DeviceWide quiet;
    dnn_ = std::make_unique<Dnn>(*this);
  }
  return *dnn_;
}

UploadRing& Stream::upload_ring() {
  if (!upload_ring_) upload_ring_ = std::make_unique<UploadRing>();
  return *upload_ring_;
}

// The old block is free for later work of this stream only.
void* Stream::scratch(size_t bytes, int slot) {
  LT_CHECK(0 <= slot && slot < kSlots, "scratch slot {} of {}", slot, kSlots);
  Scratch& at = scratch_[slot];
  if (at.bytes < bytes) {
    if (at.data) arena_->free(at.data, at.bytes);
    at = {arena_->allocate(bytes), bytes};
    ++scratch_version_;
  }
  return at.data;
}

uint64_t Stream::scratch_version() const {
  return scratch_version_;
}

size_t Stream::held_bytes() const {
  return arena_->held_bytes();
}

size_t Stream::peak_bytes() const {
  return arena_->peak_bytes();
}

}  // namespace longtake::cuda

namespace longtake {

StreamRef::StreamRef(cuda::Stream& stream, ThreadPool& pool, WorkClock* clock)
    : device_{DeviceType::cuda, stream.device(), &stream.memory()},
      cuda_(&stream),
      pool_(&pool),
      clock_(clock) {}

void StreamRef::make_current() const {
  if (cuda_) cuda_->make_current();
}

void StreamRef::synchronize() const {
  if (cuda_) cuda_->synchronize();
}

}  // namespace longtake
