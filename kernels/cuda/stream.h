// One queue of work on one GPU, with its memory and its library handles. One thread issues work to
// it. No CUDA header is needed to use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/device.h"

struct CUstream_st;  // cudaStream_t
struct CUevent_st;   // cudaEvent_t

namespace longtake::cuda {

struct DeviceInfo {
  std::string name;       // "NVIDIA H200"
  int compute_major = 0;  // 9
  int compute_minor = 0;  // 0
  int multiprocessors = 0;
  size_t shared_bytes = 0;  // most dynamic shared memory of a thread block
  size_t memory_bytes = 0;
  size_t free_bytes = 0;  // when the stream was made
};

// Is a CUDA backend compiled in?
bool compiled_in();
// GPUs that this process can use; empty without a driver, with the reason in `why`.
std::vector<DeviceInfo> devices(std::string* why = nullptr);
// Of one of them, now.
size_t free_bytes(int device);

// Of the libraries whose choice of algorithm decides the bits: "cuBLASLt 130100".
std::string library_versions();

class Arena;
class Gemm;  // kernels/cuda/gemm.h
class Dnn;   // kernels/cuda/dnn.h
class UploadRing;

class Stream {
 public:
  enum class Priority { normal, high };

  // Fails with `usage` when there is no such GPU.
  explicit Stream(int device, Priority priority = Priority::normal);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  CUstream_st* handle() const { return handle_; }
  int device() const { return device_; }
  const DeviceInfo& info() const { return info_; }
  DeviceMemory& memory();
  void synchronize();
  // See kernels/base/stream.h.
  int begin_interval();
  void end_interval(int begin, double* to);
  // The calling thread issues to this stream's GPU from now on.
  void make_current() const;

  Gemm& gemm();  // made when first asked for
  Dnn& dnn();
  UploadRing& upload_ring();

  // Scratch memory of the calls in this stream: at least `bytes`; valid until the next call of this
  // function with the same slot. Aligned to 256 bytes.
  void* scratch(size_t bytes, int slot = 0);
  uint64_t scratch_version() const;  // changes when any of it moves

  // Bytes of device memory that the stream's arena holds, and the most that were in use at a time.
  size_t held_bytes() const;
  size_t peak_bytes() const;

 private:
  int device_ = 0;
  CUstream_st* handle_ = nullptr;
  DeviceInfo info_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Gemm> gemm_;
  std::unique_ptr<Dnn> dnn_;
  std::unique_ptr<UploadRing> upload_ring_;
  // Events are used again; an interval waits here for the next synchronize().
  int record_event();
  std::vector<CUevent_st*> events_;
  size_t events_used_ = 0;
  struct Interval {
    int begin, end;
    double* to;
  };
  std::vector<Interval> intervals_;
  uint64_t scratch_version_ = 0;
  static constexpr int kSlots = 8;
  struct Scratch {
    void* data = nullptr;
    size_t bytes = 0;
  } scratch_[kSlots];
};

}  // namespace longtake::cuda
