// Where a self-attention is computed: all that the model sees of attention workers. Without one the
// model computes it itself, at once.
#pragma once

#include <utility>

#include "kernels/attention.h"

namespace longtake {

// Which self-attention of the run.
struct AttentionKey {
  int32_t block = 0, step = 0, layer = 0;
  uint8_t branch = 0;
};

class AttentionExchange {
 public:
  using Call = int64_t;
  virtual ~AttentionExchange() = default;
  // Whether there is anybody now who could compute for others.
  virtual bool anybody() const = 0;
  // Begins it and returns when the rest can be computed elsewhere. All that `args` points at, the
  // result included, stays as it is until finish(); the list of segments itself is copied.
  virtual Call start(const AttentionArgs& args, const AttentionKey& key, StreamRef stream) = 0;
  // Returns when the result is complete; the bits are those of attention(args).
  virtual void finish(Call call, StreamRef stream) = 0;
  // Nobody wants the result any more: when this returns, nothing of it is read or written again.
  virtual void abandon(Call call) noexcept = 0;
};

// A call between start() and finish(). One that is not finished, because of an error, is abandoned.
class StartedAttention {
 public:
  StartedAttention() = default;
  StartedAttention(AttentionExchange& exchange, const AttentionArgs& args, const AttentionKey& key,
                   StreamRef stream)
      : exchange_(&exchange), call_(exchange.start(args, key, stream)) {}
  StartedAttention(StartedAttention&& other) noexcept
      : exchange_(std::exchange(other.exchange_, nullptr)), call_(other.call_) {}
  StartedAttention& operator=(StartedAttention&& other) noexcept {
    std::swap(exchange_, other.exchange_);
    std::swap(call_, other.call_);
    return *this;
  }
  ~StartedAttention() {
    if (exchange_) exchange_->abandon(call_);
  }

  explicit operator bool() const { return exchange_ != nullptr; }
  void finish(StreamRef stream) {
    exchange_->finish(call_, stream);
    exchange_ = nullptr;
  }

 private:
  AttentionExchange* exchange_ = nullptr;  // null: there is none
  AttentionExchange::Call call_ = 0;
};

}  // namespace longtake
