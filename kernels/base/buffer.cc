#include "kernels/base/buffer.h"

#include <sys/mman.h>

#include <cstdlib>

#include "kernels/base/error.h"

namespace longtake {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

void Buffer::Free::operator()(void* data) const {
  std::free(data);
}

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  const size_t alignment = bytes >= 4 * kHugePage ? kHugePage : kAlignment;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  data_.reset(std::aligned_alloc(alignment, rounded ? rounded : alignment));
  if (!data_) fail(ExitCode::error, "out of memory: {} bytes could not be allocated", bytes);
  // Fewer page faults and TLB misses; advice only, so a refusal changes nothing.
  if (alignment == kHugePage) (void)madvise(data_.get(), rounded, MADV_HUGEPAGE);
}

}  // namespace longtake
