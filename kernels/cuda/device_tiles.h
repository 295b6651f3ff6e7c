// Lists of tiles (kernels/attention.h) in the memory of a GPU: made once, for all calls that use
// the same lists.
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/base/buffer.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

class DeviceTiles {
 public:
  // Copies the lists, in the order of this stream's work, for calls in this stream; destroyed no
  // sooner than the last of them is issued. `tiles` may go when it returns.
  DeviceTiles(const AttentionTiles& tiles, Stream& stream);

  int device() const { return device_; }
  size_t rows() const { return rows_; }                      // heads * query tiles
  size_t listed() const { return listed_; }                  // key tiles of all rows
  int32_t last_tile() const { return last_; }                // the largest listed, or -1
  const int64_t* offsets() const { return at<int64_t>(0); }  // [rows + 1]
  // [rows], those with most tiles first, so that none of them starts last
  const int32_t* row_order() const { return at<int32_t>(order_at()); }
  const int32_t* keys() const { return at<int32_t>(keys_at()); }  // [listed]

 private:
  template <class T>
  const T* at(size_t byte) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(memory_.data()) + byte);
  }
  size_t order_at() const { return (rows_ + 1) * sizeof(int64_t); }
  size_t keys_at() const { return order_at() + rows_ * sizeof(int32_t); }
  size_t bytes() const { return keys_at() + listed_ * sizeof(int32_t); }

  int device_ = 0;
  size_t rows_ = 0, listed_ = 0;
  int32_t last_ = -1;
  Buffer memory_;
};

}  // namespace longtake::cuda
