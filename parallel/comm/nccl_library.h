// The functions of NCCL that longtake calls, out of the shared library.
#pragma once

#include <nccl.h>

#include <string>

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

  // One for the process; fails when the library or one of the functions is missing.
  static const NcclLibrary& get();

 private:
  NcclLibrary();
};

}  // namespace longtake
