// Host to device through a few pinned buffers: one is filled while others are on their way, so that
// reading a file and the bus overlap, and the host holds no copy of what goes to the device.
#pragma once

#include <cstddef>
#include <functional>

struct CUstream_st;
struct CUevent_st;

namespace longtake::cuda {

class UploadRing {
 public:
  static constexpr size_t kPieceBytes = size_t{16} << 20;

  UploadRing();
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  // fill(from, bytes, to) writes bytes [from, from + bytes) of the data to pinned memory. Returns
  // when everything has been filled; the copies are done in the stream's order.
  using Fill = std::function<void(size_t from, size_t bytes, void* to)>;
  void upload(void* device, size_t bytes, const Fill& fill, CUstream_st* stream);

 private:
  static constexpr int kSlots = 3;
  struct Slot {
    void* data = nullptr;
    CUevent_st* sent = nullptr;
  } slots_[kSlots];
  int next_ = 0;
};

}  // namespace longtake::cuda
