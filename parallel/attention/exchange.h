// Where a self-attention is computed: all that the model sees of attention workers. Without one the
// model computes it itself, at once.
#pragma once

#include "kernels/attention.h"

namespace longtake {

// Which self-attention of the run.
struct AttentionKey {
  int32_t block = 0, step = 0, layer = 0;
  uint8_t branch = 0;
};

class AttentionExchange {
 public:
  using Call = int64_t;
  virtual ~AttentionExchange() = default;
  // Begins it and returns when the rest can be computed elsewhere. All that `args` points at, the
  // result included, stays as it is until finish(); the list of segments itself is copied.
  virtual Call start(const AttentionArgs& args, const AttentionKey& key, StreamRef stream) = 0;
  // Returns when the result is complete; the bits are those of attention(args).
  virtual void finish(Call call, StreamRef stream) = 0;
};

}  // namespace longtake
