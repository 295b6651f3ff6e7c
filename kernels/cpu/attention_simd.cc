#include "kernels/cpu/kernels_simd.h"

namespace longtake::cpu::LT_ISA_NS {

const AttentionKernel kAttention{};

}  // namespace longtake::cpu::LT_ISA_NS
