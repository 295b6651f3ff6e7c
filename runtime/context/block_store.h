// Latents by block and version. Memory is made once and used again.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "kernels/base/tensor.h"
#include "parallel/plan/instruction.h"

namespace longtake {

class BlockStore {
 public:
  explicit BlockStore(const Device& device) : device_(device) {}
  // A new version, f32 of `shape`; contents undefined.
  Tensor make(const Latent& latent, const Shape& shape);
  ConstTensor read(const Latent& latent) const;
  void release(const Latent& latent);
  size_t live() const { return live_.size(); }
  size_t peak_bytes() const { return peak_bytes_; }

 private:
  using Key = std::pair<BlockId, StepId>;
  Device device_;
  std::map<Key, OwnedTensor> live_;
  std::vector<OwnedTensor> free_;
  size_t peak_bytes_ = 0;
};

}  // namespace longtake
