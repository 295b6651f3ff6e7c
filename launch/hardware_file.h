// Hardware profiles for people: configs/hardware/*.yaml and what `longtake plan --calibrate`
// writes.
#pragma once

#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "parallel/cost/hardware_profile.h"

namespace longtake {

struct HardwareFile {
  struct Rates {  // GFLOP/s; 0: not known
    double linear = 0, attention = 0, conv = 0;
  };
  std::string name;
  double memory_gb = 0, memory_gb_per_s = 0;
  double link_gb_per_s = 0, link_latency_us = 0;  // one direction
  double operator_us = 0;
  Rates f32, bf16;
  // Optional: devices that can only be attention workers.
  struct Worker {
    std::string name;
    int64_t count = 1;
    double speed = 1;  // of attention, in that of a rank
    double link_gb_per_s = 0, link_latency_us = 0;
  };
  std::vector<Worker> workers;
  int64_t overlap = 1;  // optional; 0: a device does not compute while it moves data

  bool has(DType dtype) const { return rates(dtype).linear > 0; }
  const Rates& rates(DType dtype) const { return dtype == DType::bf16 ? bf16 : f32; }
  // Fails with ExitCode::usage where the file has no rates of this type.
  HardwareProfile profile(DType dtype) const;
};

// All problems together, ExitCode::usage; missing_input when there is no such file or name.
HardwareFile read_hardware(const std::string& name_or_file);
// `name` stands in messages.
HardwareFile parse_hardware(const std::string& text, const std::string& name);
std::string to_yaml(const HardwareFile& hardware);

}  // namespace longtake
