// Channels between the memories of GPUs over NCCL. Each directed edge has a communicator of two
// ranks and a stream of its own, so that directions and edges wait for nobody else. NCCL is opened
// when it is first needed and is no dependency of the program.
//
// A receive is issued when the sender has said that its message is under way, not before: a kernel
// that waits for a message which this process itself must first make possible would hang every call
// that waits for the whole GPU (cudaFree, the loading of a kernel).
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/stream.h"
#include "parallel/comm/channel.h"

namespace longtake {

// Can NCCL be used here? If not, `why` says so.
bool nccl_available(std::string* why = nullptr);

// `control` carries how the two ends of an edge find each other, which messages are under way, and
// questions when a deadline is missed. The buffers lie on the GPU of `compute`, the stream in whose
// order they are written and read; it outlives the transport. Channels can be used after ready();
// their memory lives as long as the transport, which ends the process (ExitCode::watchdog) when
// NCCL cannot be ended.
std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport> control,
                                               cuda::Stream& compute, Deadline deadline);

}  // namespace longtake
