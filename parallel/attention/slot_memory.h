// The payloads of a pair: `slots` tasks and as many answers, allocated once, in memory of this
// process or shared by both ends.
#pragma once

#include "kernels/base/buffer.h"
#include "parallel/attention/pair_link.h"
#include "parallel/attention/shared_region.h"

namespace longtake {

class SlotMemory {
 public:
  static constexpr size_t kPage = 4096;  // slots begin at multiples of it

  explicit SlotMemory(const PairTerms& terms);                // of this process
  SlotMemory(const PairTerms& terms, SharedRegion&& region);  // bytes(terms) long

  static size_t bytes(const PairTerms& terms);  // with a page in front of the slots

  bool shared() const { return region_.has_value(); }
  void drop();  // the memory; task() and answer() are of no use any more
  std::byte* task(int slot) const;
  std::byte* answer(int slot) const;

 private:
  std::byte* at(int slot, size_t offset, size_t stride) const;

  int slots_;
  size_t task_stride_, answer_stride_;
  std::optional<SharedRegion> region_;
  Buffer own_;
};

}  // namespace longtake
