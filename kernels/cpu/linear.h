// CPU backend of kernels/linear.h: the weight lies in panels of output columns, each packed by
// oneDNN; a task is one (panel, row tile): product into a tile of f32 that stays in cache, then the
// epilogue.
#pragma once

#include "kernels/linear.h"

namespace longtake {

namespace cpu {

struct PackedLinear : Linear::Packed {
  DType math;     // f32, also for bf16 where the processor does not multiply bf16
  int64_t panel;  // columns of every panel but the last
  std::vector<Buffer> panels;
  size_t bytes() const override;
};

std::unique_ptr<Linear::Packed> pack_linear(ConstTensor weight, DType compute, StreamRef stream);
void linear(const LinearArgs& args, const Linear& weight, StreamRef stream);

}  // namespace cpu
}  // namespace longtake
