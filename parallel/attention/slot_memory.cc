#include "parallel/attention/slot_memory.h"

#include "kernels/base/error.h"

namespace longtake {

namespace {

size_t stride(uint64_t bytes) {
  return (bytes + SlotMemory::kPage - 1) / SlotMemory::kPage * SlotMemory::kPage;
}

}  // namespace

SlotMemory::SlotMemory(const PairTerms& terms)
    : slots_(terms.slots),
      task_stride_(stride(terms.task_bytes)),
      answer_stride_(stride(terms.answer_bytes)),
      own_(bytes(terms)) {}

SlotMemory::SlotMemory(const PairTerms& terms, SharedRegion&& region)
    : slots_(terms.slots),
      task_stride_(stride(terms.task_bytes)),
      answer_stride_(stride(terms.answer_bytes)),
      region_(std::move(region)) {
  LT_CHECK(region_->bytes() == bytes(terms), "expected {} shared bytes, found {}", bytes(terms),
           region_->bytes());
}

size_t SlotMemory::bytes(const PairTerms& terms) {
  return kPage + terms.slots * (stride(terms.task_bytes) + stride(terms.answer_bytes));
}

void SlotMemory::drop() {
  slots_ = 0;
  region_.reset();
  own_ = {};
}

std::byte* SlotMemory::at(int slot, size_t offset, size_t stride) const {
  LT_CHECK(slot >= 0 && slot < slots_, "slot {} of {}", slot, slots_);
  std::byte* base = region_ ? region_->data() : static_cast<std::byte*>(own_.data());
  return base + kPage + offset + static_cast<size_t>(slot) * stride;
}

std::byte* SlotMemory::task(int slot) const {
  return at(slot, 0, task_stride_);
}

std::byte* SlotMemory::answer(int slot) const {
  return at(slot, static_cast<size_t>(slots_) * task_stride_, answer_stride_);
}

}  // namespace longtake
