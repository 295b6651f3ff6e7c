// Channels between processes of one host by copy engines: the sender copies into the receiver's
// memory, which it has opened (CUDA IPC), and no multiprocessor is busy. The two may share a GPU,
// or have one each with peer access. No stream waits for another process: hosts do, with deadlines.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/stream.h"
#include "parallel/comm/channel.h"

namespace longtake {

// Names a GPU or a part of one among all hosts.
std::string gpu_identity(int device);
// Can this process copy from its GPU into memory of that one? If not, why; else empty.
std::string why_no_ipc(int device, const std::string& other_identity);

// `control` carries what tells the ends about each other. The buffers lie on the GPU of `compute`,
// the stream in whose order they are written and read; it outlives the transport. Channels can be
// used after ready(); their memory lives as long as the transport.
std::unique_ptr<Transport> make_ipc_transport(std::unique_ptr<Transport> control,
                                              cuda::Stream& compute, Deadline deadline);

}  // namespace longtake
