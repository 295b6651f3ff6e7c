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
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* data = nullptr;
  if (::posix_memalign(&data, alignment, rounded ? rounded : alignment) == 0) data_.reset(data);
  if (!data_) fail(ExitCode::error, "out of memory: {} bytes could not be allocated", bytes);
  // Fewer page faults and TLB misses; advice only, so a refusal changes nothing. Whole pages: the
  // rest would cost up to 2 MiB more.
  if (alignment == kHugePage)
    (void)madvise(data_.get(), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
}

}  // namespace longtake
