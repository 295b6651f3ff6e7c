#include "kernels/base/buffer.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

std::atomic<size_t> live{0}, peak{0};

void count(size_t bytes) {
  const size_t now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  size_t most = peak.load(std::memory_order_relaxed);
  while (now > most && !peak.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
}

}  // namespace

size_t Buffer::live_bytes() {
  return live.load(std::memory_order_relaxed);
}

size_t Buffer::peak_bytes() {
  return peak.load(std::memory_order_relaxed);
}

void Buffer::reset_peak_bytes() {
  peak.store(live_bytes(), std::memory_order_relaxed);
}

void Buffer::Free::operator()(void* data) const {
  if (memory) return memory->free(data, bytes);
  live.fetch_sub(bytes, std::memory_order_relaxed);
  std::free(data);
}

Buffer::Buffer(size_t bytes, DeviceMemory* memory) {
  if (memory) {
    data_ = {memory->allocate(bytes), Free{bytes, memory}};
    return;
  }
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* data = nullptr;
  if (::posix_memalign(&data, alignment, rounded ? rounded : alignment) == 0)
    data_ = {data, Free{bytes, nullptr}};
  if (!data_) fail(ExitCode::error, "out of memory: {} bytes could not be allocated", bytes);
  count(bytes);
  // Fewer page faults and TLB misses; advice only, so a refusal changes nothing. Whole pages: the
  // rest would cost up to 2 MiB more.
  if (alignment == kHugePage)
    (void)madvise(data_.get(), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
}

}  // namespace longtake
