#include "launch/transport_choice.h"

#include <doctest/doctest.h>

#include "kernels/base/error.h"

namespace longtake {

TEST_CASE("data take the best way that all ranks can use") {
  using T = TransportChoice;
  const DataPathLimits none{}, shared{"", "", true}, hosts{"several hosts", "", false},
      hosts_shared{"several hosts", "", true}, nothing{"several hosts", "no library", false};

  CHECK(choose_path(T::automatic, none).path == DataPath::ipc);
  CHECK(choose_path(T::automatic, shared).path == DataPath::ipc);
  CHECK(choose_path(T::automatic, hosts).path == DataPath::nccl);
  CHECK(choose_path(T::automatic, hosts_shared).path == DataPath::mpi);
  CHECK(choose_path(T::automatic, hosts_shared).why ==
        "no ipc: several hosts; no nccl: ranks share a GPU");
  CHECK(choose_path(T::automatic, nothing).why == "no ipc: several hosts; no nccl: no library");
  CHECK(choose_path(T::mpi, none).path == DataPath::mpi);
}

TEST_CASE("a way that is asked for is taken or refused, never replaced") {
  using T = TransportChoice;
  const DataPathLimits none{}, shared{"", "", true}, nothing{"several hosts", "no library", false};

  CHECK(choose_path(T::nccl, none).path == DataPath::nccl);
  CHECK(choose_path(T::nccl, shared).path == DataPath::nccl);
  CHECK_FALSE(choose_path(T::nccl, shared).failed);
  CHECK(choose_path(T::nccl, nothing).failed);
  CHECK(choose_path(T::nccl, nothing).why == "parallel.transport: nccl cannot be used: no library");
  CHECK(choose_path(T::ipc, shared).path == DataPath::ipc);
  CHECK(choose_path(T::ipc, nothing).failed);
  CHECK(choose_path(T::ipc, nothing).why ==
        "parallel.transport: ipc cannot be used: several hosts");
}

}  // namespace longtake
