#include <doctest/doctest.h>

#include "launch/offload_choice.h"

namespace longtake::testing {

TEST_CASE("features go to host memory when they do not fit or when asked for") {
  using O = OffloadChoice;
  const DeviceChoice gpu = DeviceChoice::cuda;
  const double missing = GpuMemory{100e9, 80e9}.missing_bytes();
  const double spare = GpuMemory{70e9, 80e9}.missing_bytes();

  CHECK(choose_offload(O::automatic, gpu, missing));
  CHECK(!choose_offload(O::automatic, gpu, spare));
  CHECK(!choose_offload(O::automatic, gpu, 0));
  CHECK(choose_offload(O::on, gpu, spare));
  CHECK(!choose_offload(O::off, gpu, missing));
}

TEST_CASE("some of a GPU's free memory is not counted on") {
  CHECK(GpuMemory{75e9, 80e9}.missing_bytes() > 0);
}

TEST_CASE("without a GPU nothing is offloaded, and asking for it is an error") {
  const DeviceChoice cpu = DeviceChoice::cpu;

  CHECK(!choose_offload(OffloadChoice::automatic, cpu, 1e12));
  CHECK(!choose_offload(OffloadChoice::off, cpu, 1e12));
  CHECK_THROWS_WITH_AS(
      choose_offload(OffloadChoice::on, cpu, 0),
      "offload: on is for GPUs (device cuda); on the CPU features lie in host memory anyway",
      Error);
}

}  // namespace longtake::testing
