#include "launch/machine.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "kernels/base/error.h"

namespace longtake {

int choose_threads(int asked) {
  if (asked > 0) return asked;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

DType choose_precision(Precision precision) {
  return precision == Precision::bf16 ? DType::bf16 : DType::f32;
}

void check_device(DeviceChoice device) {
  if (device == DeviceChoice::cuda)
    fail(ExitCode::usage,
         "device cuda: this longtake was built without CUDA (see longtake --version)");
}

}  // namespace longtake
