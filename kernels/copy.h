// Moves bytes within and between devices.
#pragma once

#include <functional>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

// to = from: one dtype and shape, any of the two on the host or on the stream's GPU; rows may be
// strided on either side. To and from the host it is done when the call returns; host tensors must
// live until then. On the GPU it is done in the stream's order.
void copy(ConstTensor from, Tensor to, StreamRef stream);

// Fills a dense tensor from the host: fill(first, n, to) writes elements [first, first + n) to host
// memory at `to`. Into a GPU's memory it goes in pieces, each sent while the next is made.
using FillPiece = std::function<void(int64_t first, int64_t n, void* to)>;
void fill_from_host(Tensor x, const FillPiece& fill, StreamRef stream);

void fill_zero(Tensor x, StreamRef stream);

// A copy on the stream's device, and one on the host.
OwnedTensor to_device(ConstTensor x, StreamRef stream);
OwnedTensor to_host(ConstTensor x, StreamRef stream);

}  // namespace longtake
