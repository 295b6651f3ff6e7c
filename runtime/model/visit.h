// What one forward of one block needs besides its tokens. Positions, text, timestep and the
// features of neighbours are inputs; the model knows nothing of ranks, blocks or schedules.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/tensor.h"
#include "parallel/attention/exchange.h"
#include "runtime/context/rope.h"

namespace longtake {

// Keys and values of some frames in one layer: raw, as they leave to_k and to_v, before norm and
// RoPE.
struct LayerFeatures {
  ConstTensor k, v;  // compute dtype [tokens, dim]; empty: none
};

// Where a visit's self-attention finds its neighbours and leaves what they will read.
class VisitFeatures {
 public:
  virtual ~VisitFeatures() = default;
  virtual LayerFeatures prefix(int64_t layer) = 0;
  virtual LayerFeatures suffix(int64_t layer) = 0;
  virtual void publish(int64_t layer, LayerFeatures own) = 0;
  // Appends where all of this lies; false when it cannot be said.
  virtual bool addresses(std::vector<uint64_t>&) const { return false; }
};

// Modulation by the timestep (wan.md 2.2.3). Row i of the tokens uses row[i] of the n distinct
// ones.
struct Modulation {
  OwnedTensor temb;  // f32 [n, dim]
  OwnedTensor e;     // f32 [n, 6 * dim]
  OwnedTensor row;   // i32 [tokens], empty when n = 1

  const int32_t* row_index() const { return row ? row.as<int32_t>() : nullptr; }
};

// Keys and values of one prompt in one layer's cross-attention. The rows beyond the prompt's tokens
// are all equal: one row stands for them, its logit raised by ln(count), which is exact.
struct TextKeys {
  OwnedTensor k, v;  // compute dtype [rows, dim], k normalised
  int64_t rows = 0;  // of real tokens; row `rows` is the padding, if padding > 0
  int64_t padding = 0;
};

struct TextContext {
  std::vector<TextKeys> layers;  // by layer; empty where another stage owns it
};

struct Visit {
  TokenGrid grid;  // own frames
  const Modulation* modulation = nullptr;
  const TextContext* text = nullptr;
  VisitFeatures* features = nullptr;  // null: no neighbours
  int64_t prefix_frames = 0;          // as many as features->prefix() holds
  int64_t suffix_frames = 0;
  AttentionExchange* exchange = nullptr;  // null: self-attention is computed here
  AttentionKey key = {};                  // for the exchange; the layer is filled in
};

}  // namespace longtake
