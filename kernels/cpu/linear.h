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
  int64_t panels;
  size_t panel_bytes;
  Buffer memory;  // of all panels: large buffers go back to the system when they are freed

  char* data(int64_t i) const {
    return static_cast<char*>(memory.data()) + static_cast<size_t>(i) * panel_bytes;
  }
  size_t bytes() const override { return memory.bytes(); }
};

std::unique_ptr<Linear::Packed> pack_linear(const RowSource& weight, DType compute,
                                            StreamRef stream);
// The same, every panel by oneDNN, which alone may know its layout; slower, with more memory.
std::unique_ptr<Linear::Packed> pack_linear_by_onednn(const RowSource& weight, DType compute,
                                                      StreamRef stream);
void linear(const LinearArgs& args, const Linear& weight, StreamRef stream);

}  // namespace cpu
}  // namespace longtake
