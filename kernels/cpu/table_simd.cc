// The table of this instruction set's kernels.
#include "kernels/cpu/kernels_simd.h"

namespace longtake::cpu::LT_ISA_NS {

const KernelTable& table() {
  static constexpr KernelTable kTable{
      modulate,     rms,       channel_norm,       epilogue, silu_rows,
      gated_gelu,   add_rows,  linear_combination, to_bf16,  to_f32,
      weighted_row, pack_rows, attention_kernel(), &kPeak,
  };
  return kTable;
}

}  // namespace longtake::cpu::LT_ISA_NS
