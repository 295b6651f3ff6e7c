#ifdef LONGTAKE_NCCL

#include "parallel/comm/nccl_library.h"

#include <atomic>
#include <memory>
#include <thread>

#include "kernels/base/error.h"

namespace longtake {

NcclLibrary::NcclLibrary() {
  library.load(get_unique_id, "ncclGetUniqueId");
  library.load(init, "ncclCommInitRankConfig");
  library.load(async_error, "ncclCommGetAsyncError");
  library.load(abort, "ncclCommAbort");
  library.load(send, "ncclSend");
  library.load(receive, "ncclRecv");
  library.load(error_string, "ncclGetErrorString");
  library.load(last_error, "ncclGetLastError");
  library.load(allocate, "ncclMemAlloc");
  library.load(free, "ncclMemFree");
  library.load(register_buffer, "ncclCommRegister");
}

const NcclLibrary& NcclLibrary::get() {
  static const NcclLibrary library;
  return library;
}

void NcclLibrary::begin_pair(ncclComm_t* comm, const ncclUniqueId& id, int index,
                             const std::string& who) const {
  constexpr int kMostCtas = 4;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = kMostCtas;
  accept(init(comm, 2, id, index, &config), "ncclCommInitRankConfig", *comm, who);
}

void NcclLibrary::accept(ncclResult_t result, const char* call, ncclComm_t comm,
                         const std::string& who) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  fail(ExitCode::error, "{}: {}: {} ({})", who, call, error_string(result), last_error(comm));
}

bool NcclLibrary::settled(ncclComm_t comm, const std::string& who) const {
  ncclResult_t state = ncclSuccess;
  accept(async_error(comm, &state), "ncclCommGetAsyncError", comm, who);
  accept(state, "the call before", comm, who);
  return state != ncclInProgress;
}

bool NcclLibrary::abort_all(const std::vector<ncclComm_t>& communicators,
                            std::chrono::milliseconds limit) const {
  constexpr auto kSleep = std::chrono::milliseconds(1);
  const auto left = std::make_shared<std::atomic<size_t> >(communicators.size());
  for (ncclComm_t comm : communicators)
    std::thread([end = abort, comm, left] {
      (void)end(comm);
      --*left;
    }).detach();
  const auto until = std::chrono::steady_clock::now() + limit;
  while (*left > 0 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(kSleep);
  return *left == 0;
}

}  // namespace longtake

#endif
