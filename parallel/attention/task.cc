#include "parallel/attention/task.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

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

size_t AttentionTask::payload_bytes() const {
  const Size size(id);
  uint64_t rows = queries;
  for (size_t i = 0; i < segment_count && i < segments.size(); ++i)
    if (segments[i].resident == 0) rows = size.sum(rows, size.product({2, segments[i].rows}));
  return size.product({rows, heads, head_dim, size_bytes(dtype)});
}

size_t AttentionTask::answer_bytes() const {
  const Size size(id);
  const uint64_t out = size.product({queries, heads, head_dim, size_bytes(dtype)});
  return want_lse ? size.sum(out, size.product({queries, heads, sizeof(float)})) : out;
}

uint64_t payload_checksum(const void* data, size_t bytes) {
  return XXH3_64bits(data, bytes);
}

}  // namespace longtake
