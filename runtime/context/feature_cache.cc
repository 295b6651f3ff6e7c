#include "runtime/context/feature_cache.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "kernels/copy.h"

namespace longtake {

namespace {

std::string text_of(const Features& f) {
  return to_text(ReleaseFeatures{f}).substr(sizeof "release");
}

}  // namespace

FeatureCache::FeatureCache(std::vector<LayerRange> branches, int64_t rows, int64_t dim, DType dtype,
                           StreamRef stream)
    : branches_(std::move(branches)), rows_(rows), dim_(dim), dtype_(dtype), stream_(stream) {
  for (const LayerRange& layers : branches_) layers_ += layers.end - layers.begin;
}

size_t FeatureCache::slab_bytes() const {
  return static_cast<size_t>(layers_ * 2 * rows_ * dim_) * size_bytes(dtype_);
}

void FeatureCache::make(const Features& features, int64_t rows) {
  LT_CHECK(rows <= rows_, "{}: {} rows do not fit slabs of {}", text_of(features), rows, rows_);
  Slab slab;
  const auto unshared = std::find_if(free_.begin(), free_.end(),
                                     [](const auto& data) { return data.use_count() == 1; });
  if (unshared == free_.end()) {
    slab.data =
        std::make_shared<OwnedTensor>(dtype_, Shape{layers_ * 2, rows_, dim_}, stream_.device());
    ++slabs_;
  } else {
    std::atomic_thread_fence(std::memory_order_acquire);  // after the last reader gave its share up
    slab.data = std::move(*unshared);
    free_.erase(unshared);
  }
  slab.rows = rows;
  LT_CHECK(live_.emplace(key(features), std::move(slab)).second, "{} is there already",
           text_of(features));
}

void FeatureCache::release(const Features& features) {
  const auto found = live_.find(key(features));
  LT_CHECK(found != live_.end(), "{} is not there", text_of(features));
  free_.push_back(std::move(found->second.data));
  live_.erase(found);
}

const FeatureCache::Slab& FeatureCache::find(const Features& features) const {
  const auto found = live_.find(key(features));
  LT_CHECK(found != live_.end(), "{} is not there", text_of(features));
  return found->second;
}

const void* FeatureCache::address(const Features& features) const {
  return find(features).data->view().data;
}

std::vector<Features> FeatureCache::features() const {
  std::vector<Features> out;
  for (const auto& [key, slab] : live_)
    out.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key)});
  return out;
}

int64_t FeatureCache::first_row(int64_t branch) const {
  int64_t layers = 0;
  for (int64_t b = 0; b < branch; ++b)
    layers += branches_[static_cast<size_t>(b)].end - branches_[static_cast<size_t>(b)].begin;
  return 2 * layers;
}

FeatureCache::Share FeatureCache::share(const Features& features, int64_t branch) const {
  const Slab& slab = find(features);
  LT_CHECK(slab.rows == rows_, "{} fills only {} rows of {}", text_of(features), slab.rows, rows_);
  const LayerRange& layers = branches_.at(static_cast<size_t>(branch));
  const int64_t count = layers.end - layers.begin, begin = first_row(branch);
  auto* base = static_cast<char*>(slab.data->view().data);
  return {Tensor(base + static_cast<size_t>(begin * rows_ * dim_) * size_bytes(dtype_), dtype_,
                 {count, 2, rows_, dim_}, stream_.device()),
          layers.begin, slab.data};
}

Tensor FeatureCache::part(const Slab& slab, int64_t branch, int64_t layer, int64_t which) const {
  LT_CHECK(0 <= branch && branch < static_cast<int64_t>(branches_.size()), "no branch {}", branch);
  const LayerRange& here = branches_[static_cast<size_t>(branch)];
  LT_CHECK(here.begin <= layer && layer < here.end, "layer {} of branch {} is not here", layer,
           branch);
  auto* base = static_cast<char*>(slab.data->view().data);
  const int64_t index = first_row(branch) + (layer - here.begin) * 2 + which;
  return Tensor(base + static_cast<size_t>(index * rows_ * dim_) * size_bytes(dtype_), dtype_,
                {slab.rows, dim_}, stream_.device());
}

LayerFeatures FeatureCache::read(const Features& features, int64_t branch, int64_t layer) const {
  const Slab& slab = find(features);
  return {part(slab, branch, layer, 0), part(slab, branch, layer, 1)};
}

void FeatureCache::write(const Features& features, int64_t branch, int64_t layer,
                         LayerFeatures own) {
  const Slab& slab = find(features);
  const Tensor k = part(slab, branch, layer, 0), v = part(slab, branch, layer, 1);
  LT_CHECK(own.k.shape == k.shape && own.v.shape == v.shape && own.k.dense() && own.v.dense(),
           "{}: expected {}, found {}", text_of(features), k.shape.text(), own.k.shape.text());
  copy(own.k, k, stream_);
  copy(own.v, v, stream_);
}

}  // namespace longtake
