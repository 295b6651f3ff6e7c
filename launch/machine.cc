#include "launch/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "kernels/base/error.h"
#include "launch/log.h"
#include "runtime/model/vae_decoder.h"

namespace longtake {

int choose_threads(int asked) {
  if (asked > 0) return asked;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int64_t choose_vae_tile(std::optional<int64_t> asked, const VaeConfig& vae, int64_t h, int64_t w) {
  if (asked) return *asked;
  constexpr int64_t kSide = 256;
  const double needed = decode_bytes(vae, h, w);
  const double memory =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (needed <= 0.5 * memory) return 0;
  log_info(
      "whole pictures would take {:.1f} GB of this machine's {:.1f} GB: decoding in tiles of "
      "{} pixels (--vae-tiles)",
      needed * 1e-9, memory * 1e-9, kSide);
  return kSide;
}

DType choose_precision(Precision precision, DeviceChoice device) {
  if (precision == Precision::automatic)
    return device == DeviceChoice::cuda ? DType::bf16 : DType::f32;
  return precision == Precision::bf16 ? DType::bf16 : DType::f32;
}

double machine_memory_bytes() {
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace longtake
