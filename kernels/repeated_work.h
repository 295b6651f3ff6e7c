// Work that is done again and again on the same memory. A GPU takes it as one CUDA graph from the
// third time on, which saves the launches of its many small kernels; the bits are the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/base/stream.h"

namespace longtake {

class RepeatedWork {
 public:
  RepeatedWork();
  ~RepeatedWork();
  RepeatedWork(RepeatedWork&&) noexcept;
  RepeatedWork& operator=(RepeatedWork&&) noexcept;

  // Every shape and address that `work` depends on: equal keys, equal work.
  using Key = std::vector<uint64_t>;
  // Does `work`, or replays what it was when this key came before. `work` must not wait for the
  // stream, and allocates only the first time. On the CPU it is always done itself.
  void run(const Key& key, StreamRef stream, const std::function<void(StreamRef)>& work);

  int64_t replays() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longtake
