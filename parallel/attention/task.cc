#include "parallel/attention/task.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// Sums and products of sizes that came from another process.
class Size {
 public:
  explicit Size(uint64_t task) : task_(task) {}

  uint64_t product(std::initializer_list<uint64_t> factors) const {
    uint64_t out = 1;
    for (const uint64_t factor : factors)
      if (__builtin_mul_overflow(out, factor, &out)) overflow();
    return out;
  }
  uint64_t sum(uint64_t a, uint64_t b) const {
    uint64_t out = 0;
    if (__builtin_add_overflow(a, b, &out)) overflow();
    return out;
  }

 private:
  [[noreturn]] void overflow() const {
    fail(ExitCode::bad_data, "attention task {}: its payload has more than 2^64 bytes", task_);
  }
  uint64_t task_;
};

}  // namespace

bool AttentionTask::names_resident_keys() const {
  return std::any_of(segments.begin(), segments.end(), [](auto& s) { return s.resident; });
}

size_t AttentionTask::keys_bytes(size_t segment) const {
  return Size(id).product({2, segments[segment].rows, heads, head_dim, size_bytes(dtype)});
}

size_t AttentionTask::payload_bytes() const {
  const Size size(id);
  uint64_t bytes = size.product({queries, heads, head_dim, size_bytes(dtype)});
  for (size_t i = 0; i < segment_count && i < segments.size(); ++i)
    if (!segments[i].resident) bytes = size.sum(bytes, keys_bytes(i));
  return bytes;
}

size_t AttentionTask::answer_bytes() const {
  const Size size(id);
  const uint64_t out = size.product({queries, heads, head_dim, size_bytes(dtype)});
  return want_lse ? size.sum(out, size.product({queries, heads, sizeof(float)})) : out;
}

uint64_t payload_checksum(const void* data, size_t bytes) {
  return XXH3_64bits(data, bytes);
}

uint64_t number_of(ConstTensor k, ConstTensor v) {
  XXH3_state_t hash;
  XXH3_INITSTATE(&hash);
  (void)XXH3_64bits_reset(&hash);  // this and update fail for null alone
  for (const ConstTensor& x : {k, v}) {
    const size_t bytes = static_cast<size_t>(x.dim(1) * x.dim(2)) * size_bytes(x.dtype);
    for (int64_t i = 0; i < x.dim(0); ++i)
      (void)XXH3_64bits_update(&hash, x.rows(i, i + 1).data, bytes);
  }
  return std::max<uint64_t>(1, XXH3_64bits_digest(&hash));
}

}  // namespace longtake
