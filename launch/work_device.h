// The device that a command works on: the processor's threads, or a GPU with a stream of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/base/stream.h"
#include "kernels/cuda/stream.h"
#include "launch/run_config.h"

namespace longtake {

// cuda or cpu; `auto` is cuda where a GPU can be used. Fails with ExitCode::usage and the reason
// when cuda is asked for and there is none.
DeviceChoice choose_device(DeviceChoice asked);

// "cpu", or the GPU's name.
std::string device_name(DeviceChoice chosen);

// The GPU that a rank uses; fails when there is none.
int gpu_of(int rank_on_node);

// Its number for pairs of attention ranks and workers over NCCL (parallel/attention/nccl_pair.h);
// 0: not on a GPU, or without NCCL.
uint64_t nccl_gpu_of(DeviceChoice chosen, int rank_on_node);

class WorkDevice {
 public:
  // `chosen` by choose_device(). With several ranks on a node each takes the next GPU. `pool` does
  // what is done on the host, and outlives this.
  WorkDevice(DeviceChoice chosen, int rank_on_node, ThreadPool& pool);

  StreamRef stream();
  // Most bytes of the device's memory that were in use at a time; on the CPU, of all tensors.
  size_t peak_bytes() const;

 private:
  ThreadPool& pool_;
  std::optional<cuda::Stream> gpu_;
};

}  // namespace longtake
