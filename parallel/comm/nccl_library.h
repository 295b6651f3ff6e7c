// The functions of NCCL that longtake calls, out of the shared library.
#pragma once

#include <nccl.h>

#include <chrono>
#include <string>
#include <vector>

#include "kernels/cuda/library.h"

namespace longtake {

struct NcclLibrary {
  cuda::Library library{"libnccl.so.2", "libnccl.so"};
  decltype(&::ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&::ncclCommInitRankConfig) init = nullptr;
  decltype(&::ncclCommGetAsyncError) async_error = nullptr;
  decltype(&::ncclCommAbort) abort = nullptr;
  decltype(&::ncclSend) send = nullptr;
  decltype(&::ncclRecv) receive = nullptr;
  decltype(&::ncclGetErrorString) error_string = nullptr;
  decltype(&::ncclGetLastError) last_error = nullptr;
  decltype(&::ncclMemAlloc) allocate = nullptr;
  decltype(&::ncclMemFree) free = nullptr;
  decltype(&::ncclCommRegister) register_buffer = nullptr;

  // Begins one of two ranks, of which `index` is this one's, without waiting and with few of the
  // GPU's multiprocessors; settled() says when it is there.
  void begin_pair(ncclComm_t* comm, const ncclUniqueId& id, int index,
                  const std::string& who) const;
  // Ends them all at once, each in a thread of its own: one after the other they could wait for
  // each other. False if they did not end in time; then nothing that they use may be freed.
  bool abort_all(const std::vector<ncclComm_t>& communicators,
                 std::chrono::milliseconds limit) const;
  // Has the last call been carried out? Until then there may be no other, and nothing of it may be
  // in its stream yet. Fails on an error of NCCL; `who` begins the message.
  bool settled(ncclComm_t comm, const std::string& who) const;
  void accept(ncclResult_t result, const char* call, ncclComm_t comm, const std::string& who) const;

  // One for the process; fails when the library or one of the functions is missing.
  static const NcclLibrary& get();

 private:
  NcclLibrary();
};

}  // namespace longtake
