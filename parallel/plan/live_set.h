// What a rank holds while a plan is played: (kind, block, step) -> a small number. An open hash
// table with linear probing, because a plan of 512 ranks asks it 10^8 times.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/ids.h"

namespace longtake {

enum class Held : uint8_t { head, tail, latent, solver, version };

class LiveSet {
 public:
  static constexpr int64_t block_limit = int64_t{1} << 40;
  static constexpr int64_t step_limit = int64_t{1} << 20;

  struct Entry {
    uint64_t key = 0;  // 0: free
    int64_t value = 0;
  };

  // Below the limits and not negative.
  static uint64_t key(Held held, BlockId block, StepId step) {
    return (static_cast<uint64_t>(held) + 1) << 60 | static_cast<uint64_t>(block.value) << 20 |
           static_cast<uint64_t>(step.value);
  }
  static Held held(uint64_t key) { return static_cast<Held>((key >> 60) - 1); }
  static BlockId block(uint64_t key) {
    return {static_cast<int64_t>((key >> 20) & (uint64_t{block_limit} - 1))};
  }
  static StepId step(uint64_t key) {
    return {static_cast<int64_t>(key & (uint64_t{step_limit} - 1))};
  }

  int64_t* find(uint64_t key) {
    Entry& entry = entries_[slot_of(key)];
    return entry.key == key ? &entry.value : nullptr;
  }
  // The key must not be there.
  void insert(uint64_t key, int64_t value) {
    if (2 * ++size_ > entries_.size()) grow();
    entries_[slot_of(key)] = {key, value};
  }
  // The key must be there. Entries behind it move up, so that probing never meets a hole.
  void erase(uint64_t key) {
    size_t hole = slot_of(key);
    for (size_t i = next(hole); entries_[i].key != 0; i = next(i)) {
      const size_t home = home_of(entries_[i].key);
      if (((i - home) & mask()) < ((i - hole) & mask())) continue;
      entries_[hole] = entries_[i];
      hole = i;
    }
    entries_[hole] = {};
    --size_;
  }
  size_t size() const { return size_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  size_t mask() const { return entries_.size() - 1; }
  size_t next(size_t i) const { return (i + 1) & mask(); }
  size_t home_of(uint64_t key) const {
    return static_cast<size_t>((key * 0x9e3779b97f4a7c15u) >> 32) & mask();
  }
  size_t slot_of(uint64_t key) const {
    size_t i = home_of(key);
    while (entries_[i].key != 0 && entries_[i].key != key) i = next(i);
    return i;
  }
  void grow() {
    std::vector<Entry> old(2 * entries_.size());
    old.swap(entries_);
    for (const Entry& entry : old)
      if (entry.key != 0) entries_[slot_of(entry.key)] = entry;
  }

  std::vector<Entry> entries_ = std::vector<Entry>(16);  // a power of two, at most half full
  size_t size_ = 0;
};

}  // namespace longtake
