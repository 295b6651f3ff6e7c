// Keys and values of context frames on the rank that owns their layers, raw: before norm and RoPE.
// One slab holds all layers and branches of one Features; slabs are made once and used again.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/base/tensor.h"
#include "parallel/plan/instruction.h"
#include "runtime/model/visit.h"

namespace longtake {

// Self-attentions [begin, end), by layer.
struct LayerRange {
  int64_t begin = 0, end = 0;
};

class FeatureCache {
 public:
  // branches: the self-attentions that this rank computes in each of its branches; rows: tokens of
  // the most context frames.
  FeatureCache(std::vector<LayerRange> branches, int64_t rows, int64_t dim, DType dtype);

  void make(const Features& features, int64_t rows);
  void release(const Features& features);
  // k or v of one layer and branch: [rows, dim].
  LayerFeatures read(const Features& features, int64_t branch, int64_t layer) const;
  void write(const Features& features, int64_t branch, int64_t layer, LayerFeatures own);

  size_t slab_bytes() const;
  size_t live() const { return live_.size(); }
  size_t peak_bytes() const { return slab_bytes() * slabs_; }

 private:
  using Key = std::tuple<Edge, BlockId, StepId>;
  struct Slab {
    OwnedTensor data;  // [layers of all branches, 2, rows, dim]
    int64_t rows = 0;
  };
  static Key key(const Features& f) { return {f.edge, f.block, f.step}; }
  const Slab& find(const Features& features) const;
  Tensor part(const Slab& slab, int64_t branch, int64_t layer, int64_t which) const;

  std::vector<LayerRange> branches_;
  int64_t layers_ = 0;  // of all branches
  int64_t rows_, dim_;
  DType dtype_;
  std::map<Key, Slab> live_;
  std::vector<OwnedTensor> free_;
  size_t slabs_ = 0;
};

}  // namespace longtake
