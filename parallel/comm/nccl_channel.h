// Channels between the memories of GPUs over NCCL. Each directed edge has a communicator of two
// ranks and a stream of its own, so that directions and edges wait for nobody else; receives are
// posted ahead. NCCL is opened when it is first needed and is no dependency of the program.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/stream.h"
#include "parallel/comm/channel.h"

namespace longtake {

// Can NCCL be used here? If not, `why` says so.
bool nccl_available(std::string* why = nullptr);

// `control` carries what NCCL cannot: how the two ends of an edge find each other, and questions
// when a deadline is missed. The buffers lie on the GPU of `compute`, the stream in whose order
// they are written and read; it outlives the transport.
std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport> control,
                                               cuda::Stream& compute, Deadline deadline);

}  // namespace longtake
