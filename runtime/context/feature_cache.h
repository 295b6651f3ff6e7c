// Keys and values of context frames on the rank that owns their layers, raw: before norm and RoPE.
// One slab holds all layers and branches of one Features; slabs are made once and used again. They
// lie in the device's memory, or in the host's (feature_offload.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"
#include "parallel/plan/instruction.h"
#include "runtime/context/feature_offload.h"
#include "runtime/model/visit.h"

namespace longtake {

// Self-attentions [begin, end), by layer.
struct LayerRange {
  int64_t begin = 0, end = 0;
};

class FeatureCache {
 public:
  // branches: the self-attentions that this rank computes in each of its branches; rows: tokens of
  // the most context frames. With `offload` the slabs lie in host memory; it outlives this.
  FeatureCache(std::vector<LayerRange> branches, int64_t rows, int64_t dim, DType dtype,
               StreamRef stream, SideCopies* offload = nullptr);

  void make(const Features& features, int64_t rows);
  void release(const Features& features);
  // Around all reads and writes of a visit. `next`: the visit after it, if that is known.
  void begin_visit(const Forward& visit, const Forward* next);
  void end_visit();
  // k or v of one layer and branch: [rows, dim].
  LayerFeatures read(const Features& features, int64_t branch, int64_t layer) const;
  void write(const Features& features, int64_t branch, int64_t layer, LayerFeatures own);

  const void* address(const Features& features) const;  // for the visit under way

  // What is alive, and a share in one of them: its memory is not used again while a share is held.
  // Between visits.
  std::vector<Features> features() const;
  struct Share {
    Tensor data;  // [layers, 2, rows, dim] of one branch
    int64_t first_layer = 0;
    std::shared_ptr<const void> owner;
  };
  Share share(const Features& features, int64_t branch) const;

  size_t slab_bytes() const;
  size_t live() const { return live_.size(); }
  size_t peak_bytes() const { return slab_bytes() * slabs_; }  // of the slabs
  const FeatureOffload* offload() const { return offload_.get(); }

 private:
  using Key = std::tuple<Edge, BlockId, StepId>;
  struct Slab {
    std::shared_ptr<OwnedTensor> data;  // [layers of all branches, 2, rows, dim]
    int64_t rows = 0;
  };
  static Key key(const Features& f) { return {f.edge, f.block, f.step}; }
  std::shared_ptr<OwnedTensor> new_slab() const;
  const Slab& find(const Features& features) const;
  void* data(const Slab& slab) const;  // for the visit under way
  std::vector<void*> slabs_of(const std::vector<Features>& features) const;
  int64_t first_row(int64_t branch) const;  // of the slab's first dimension
  Tensor part(const Slab& slab, int64_t branch, int64_t layer, int64_t which) const;

  std::vector<LayerRange> branches_;
  int64_t layers_ = 0;  // of all branches
  int64_t rows_, dim_;
  DType dtype_;
  StreamRef stream_;
  std::map<Key, Slab> live_;
  std::vector<std::shared_ptr<OwnedTensor>> free_;
  size_t slabs_ = 0;
  std::shared_ptr<DeviceMemory> host_memory_;  // of offloaded slabs; null: ordinary
  std::unique_ptr<FeatureOffload> offload_;    // goes first: it waits for copies of the slabs
};

}  // namespace longtake
