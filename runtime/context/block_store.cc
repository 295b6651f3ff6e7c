#include "runtime/context/block_store.h"

#include <algorithm>

namespace longtake {

Tensor BlockStore::make(const Latent& latent, const Shape& shape) {
  OwnedTensor data;
  const auto same = std::find_if(free_.begin(), free_.end(),
                                 [&](const OwnedTensor& t) { return t.shape() == shape; });
  if (same == free_.end()) {
    data = OwnedTensor(DType::f32, shape, device_);
    peak_bytes_ += data.bytes();
  } else {
    data = std::move(*same);
    free_.erase(same);
  }
  const auto [at, made] = live_.emplace(Key{latent.block, latent.version}, std::move(data));
  LT_CHECK(made, "block {} version {} is there already", latent.block.value, latent.version.value);
  return at->second.view();
}

ConstTensor BlockStore::read(const Latent& latent) const {
  const auto found = live_.find({latent.block, latent.version});
  LT_CHECK(found != live_.end(), "block {} version {} is not there", latent.block.value,
           latent.version.value);
  return found->second.view();
}

void BlockStore::release(const Latent& latent) {
  const auto found = live_.find({latent.block, latent.version});
  LT_CHECK(found != live_.end(), "block {} version {} is not there", latent.block.value,
           latent.version.value);
  free_.push_back(std::move(found->second));
  live_.erase(found);
}

}  // namespace longtake
