#include "kernels/cuda/device_tiles.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/upload_ring.h"

namespace longtake::cuda {

DeviceTiles::DeviceTiles(const AttentionTiles& tiles, Stream& stream)
    : device_(stream.device()), listed_(tiles.keys.size()) {
  LT_CHECK(!tiles.offsets.empty() && tiles.offsets.front() == 0 &&
               tiles.offsets.back() == static_cast<int64_t>(listed_),
           "attention tiles: expected offsets from 0 to {}, found {} of them", listed_,
           tiles.offsets.size());
  rows_ = tiles.offsets.size() - 1;
  if (listed_ > 0) last_ = *std::max_element(tiles.keys.begin(), tiles.keys.end());
  memory_ = Buffer(bytes(), &stream.memory());
  std::vector<char> all(bytes());
  const std::vector<int32_t> order = heavy_first(tiles.offsets);
  const auto put = [&](size_t at, const auto& from) {
    if (!from.empty()) std::memcpy(all.data() + at, from.data(), from.size() * sizeof(from[0]));
  };
  put(0, tiles.offsets);
  put(order_at(), order);
  put(keys_at(), tiles.keys);
  stream.upload_ring().upload(
      memory_.data(), bytes(),
      [&](size_t from, size_t n, void* to) { std::memcpy(to, all.data() + from, n); },
      stream.handle());
}

}  // namespace longtake::cuda
