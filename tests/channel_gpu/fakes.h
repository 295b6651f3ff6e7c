// CUDA and NCCL on the host, for the channels between GPUs.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <functional>

namespace longtake::testing {

// Puts work into a stream; it is done in the order of the calls, later, by another thread.
void issue(cudaStream_t stream, std::function<void()> work);
// The next calls that make a communicator fail, later, as they do when the other end is not there.
std::atomic<int>& failing_communicators();
// Communicators that exist report an error from now on, while it is true.
std::atomic<bool>& broken_network();
// Of cudaMalloc and ncclMemAlloc.
std::atomic<int>& live_allocations();

}  // namespace longtake::testing
