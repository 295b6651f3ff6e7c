#include "launch/work_device.h"

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"
#include "parallel/attention/nccl_pair.h"

namespace longtake {

int gpu_of(int rank_on_node) {
  std::string why;
  const auto gpus = static_cast<int>(cuda::devices(&why).size());
  if (gpus == 0) fail(ExitCode::usage, "device cuda: {}", why);
  return rank_on_node % gpus;
}

DeviceChoice choose_device(DeviceChoice asked) {
  if (asked == DeviceChoice::cpu) return asked;
  std::string why;
  if (!cuda::devices(&why).empty()) return DeviceChoice::cuda;
  if (asked == DeviceChoice::cuda)
    fail(ExitCode::usage, "device cuda: no GPU can be used: {} (see longtake --version)", why);
  return DeviceChoice::cpu;
}

std::string device_name(DeviceChoice chosen) {
  return chosen == DeviceChoice::cuda ? cuda::devices().at(0).name : "cpu";
}

uint64_t nccl_gpu_of(DeviceChoice chosen, int rank_on_node) {
  return chosen == DeviceChoice::cuda ? nccl_gpu_number(gpu_of(rank_on_node)) : 0;
}

WorkDevice::WorkDevice(DeviceChoice chosen, int rank_on_node, ThreadPool& pool) : pool_(pool) {
  LT_CHECK(chosen != DeviceChoice::automatic, "the device has not been chosen");
  if (chosen == DeviceChoice::cuda) gpu_.emplace(gpu_of(rank_on_node));
}

StreamRef WorkDevice::stream() {
  return gpu_ ? StreamRef(*gpu_, pool_) : StreamRef(pool_);
}

size_t WorkDevice::peak_bytes() const {
  return gpu_ ? gpu_->peak_bytes() : Buffer::peak_bytes();
}

}  // namespace longtake
