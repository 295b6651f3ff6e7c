// The most memory this process has held, as the kernel counts it.
#pragma once

#include <cstdint>

namespace longtake {

int64_t peak_memory_bytes();
void reset_peak_memory();  // the count starts again from what is held now

}  // namespace longtake
