// Threads and precision that a command uses when nobody says anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/base/dtype.h"
#include "launch/run_config.h"

namespace longtake {

// `asked` > 0, else the processors this process may use.
int choose_threads(int asked);

// Side of the VAE's tiles in pixels, 0 for none. `asked`, else 0 unless decoding whole pictures of
// h x w latents would take more than half of the machine's memory: then 256. Says so in the log.
int64_t choose_vae_tile(std::optional<int64_t> asked, const VaeConfig& vae, int64_t h, int64_t w);

// auto is bf16 on a GPU and f32 on the CPU: exact, and the speed of bf16 needs a processor that
// multiplies it.
DType choose_precision(Precision precision, DeviceChoice device);

double machine_memory_bytes();  // physical, of the whole machine
std::string processor_name();   // "AMD EPYC 9655 96-Core Processor"

}  // namespace longtake
