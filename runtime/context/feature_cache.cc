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
                           StreamRef stream, SideCopies* offload)
    : branches_(std::move(branches)), rows_(rows), dim_(dim), dtype_(dtype), stream_(stream) {
  for (const LayerRange& layers : branches_) layers_ += layers.end - layers.begin;
  if (!offload) return;
  host_memory_ = offload->host_memory();
  offload_ = std::make_unique<FeatureOffload>(slab_bytes(), *offload, stream.device().memory);
}

size_t FeatureCache::slab_bytes() const {
  return static_cast<size_t>(layers_ * 2 * rows_ * dim_) * size_bytes(dtype_);
}

// A share may outlive the cache: with the slab goes a share in the memory that it came from.
std::shared_ptr<OwnedTensor> FeatureCache::new_slab() const {
  const Shape shape{layers_ * 2, rows_, dim_};
  if (!offload_) return std::make_shared<OwnedTensor>(dtype_, shape, stream_.device());
  struct Kept {
    std::shared_ptr<DeviceMemory> memory;
    OwnedTensor data;
  };
  auto kept = std::make_shared<Kept>();
  kept->memory = host_memory_;
  kept->data = OwnedTensor(dtype_, shape, {DeviceType::cpu, 0, host_memory_.get()});
  return {kept, &kept->data};
}

void FeatureCache::make(const Features& features, int64_t rows) {
  LT_CHECK(rows <= rows_, "{}: {} rows do not fit slabs of {}", text_of(features), rows, rows_);
  Slab slab;
  const auto unshared = std::find_if(free_.begin(), free_.end(),
                                     [](const auto& data) { return data.use_count() == 1; });
  if (unshared == free_.end()) {
    slab.data = new_slab();
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
  if (offload_) offload_->forget(found->second.data->view().data);
  free_.push_back(std::move(found->second.data));
  live_.erase(found);
}

const FeatureCache::Slab& FeatureCache::find(const Features& features) const {
  const auto found = live_.find(key(features));
  LT_CHECK(found != live_.end(), "{} is not there", text_of(features));
  return found->second;
}

const void* FeatureCache::address(const Features& features) const {
  return data(find(features));
}

void* FeatureCache::data(const Slab& slab) const {
  void* own = slab.data->view().data;
  return offload_ ? offload_->on_device(own) : own;
}

// Of those that are alive.
std::vector<void*> FeatureCache::slabs_of(const std::vector<Features>& features) const {
  std::vector<void*> out;
  for (const Features& f : features)
    if (const auto found = live_.find(key(f)); found != live_.end())
      out.push_back(found->second.data->view().data);
  return out;
}

void FeatureCache::begin_visit(const Forward& visit, const Forward* next) {
  if (!offload_) return;
  const std::vector<Features> reads = visit.reads();
  for (const Features& f : reads) (void)find(f);
  offload_->begin_visit(slabs_of(reads), slabs_of(visit.writes()),
                        next ? slabs_of(next->reads()) : std::vector<void*>{});
}

void FeatureCache::end_visit() {
  if (offload_) offload_->end_visit();
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
  if (offload_) offload_->finish();
  const LayerRange& layers = branches_.at(static_cast<size_t>(branch));
  const int64_t count = layers.end - layers.begin, begin = first_row(branch);
  auto* base = static_cast<char*>(slab.data->view().data);
  return {Tensor(base + static_cast<size_t>(begin * rows_ * dim_) * size_bytes(dtype_), dtype_,
                 {count, 2, rows_, dim_}, offload_ ? Device{} : stream_.device()),
          layers.begin, slab.data};
}

Tensor FeatureCache::part(const Slab& slab, int64_t branch, int64_t layer, int64_t which) const {
  LT_CHECK(0 <= branch && branch < static_cast<int64_t>(branches_.size()), "no branch {}", branch);
  const LayerRange& here = branches_[static_cast<size_t>(branch)];
  LT_CHECK(here.begin <= layer && layer < here.end, "layer {} of branch {} is not here", layer,
           branch);
  auto* base = static_cast<char*>(data(slab));
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
