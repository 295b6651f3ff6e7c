// The three sub-layers of a Wan transformer layer (wan.md 2.2.6), each with its own weights, so
// that a stage can own any contiguous run of them.
#pragma once

#include <array>
#include <optional>

#include "kernels/linear.h"
#include "kernels/norm.h"
#include "runtime/model/model_config.h"
#include "runtime/model/visit.h"
#include "runtime/model/weights.h"

namespace longtake {

// Buffers that the layers of a stage share; grown to the largest visit.
struct LayerWorkspace {
  OwnedTensor normed, q, k, v, attended;  // compute dtype [tokens, dim]
  OwnedTensor hidden;                     // compute dtype [tokens, ffn_dim]
  OwnedTensor prefix_k, suffix_k;         // compute dtype [tokens, dim], positioned
  uint64_t version = 0;                   // changes when any of it moves
  OwnedTensor modulation[2];              // f32 [n, 6 * dim], of a layer and of the one after it
};

// What follows a sub-layer's update of x: the norm that the next one begins with, which it then
// finds in LayerWorkspace::normed.
struct NextNorm {
  std::optional<LayerNorm> norm;
  DType dtype = DType::f32;  // of the normed rows
};

// Rotary tables of a visit's window [prefix | own | suffix].
struct VisitRope {
  ConstTensor cosine, sine;  // f32 [window tokens, head_dim / 2]
  int64_t prefix_tokens = 0, own_tokens = 0, suffix_tokens = 0;
};

// A self-attention with its inputs in the workspace.
struct PreparedAttention {
  ConstTensor q;  // compute dtype [tokens, heads, head_dim], positioned
  std::array<KeySegment, 3> segments;
  size_t segment_count = 0;
  Tensor out;  // as q
  float scale = 1;

  AttentionArgs args() const {
    return {.q = q, .segments = {segments.data(), segment_count}, .out = out, .scale = scale};
  }
};

class SelfAttention {
 public:
  SelfAttention(const Weights& weights, const std::string& block, const TransformerConfig& config,
                DType compute, StreamRef stream);
  // Modulation f32 [n, 6 * dim] = table + e. `normed`: the sub-layer before has left the norm of x
  // in the workspace; the same below.
  PreparedAttention prepare(int64_t layer, ConstTensor x, ConstTensor modulation,
                            const Visit& visit, const VisitRope& rope, bool normed,
                            LayerWorkspace& workspace, StreamRef stream) const;
  // x += gate * (attended W^T + b)
  void finish(ConstTensor attended, Tensor x, ConstTensor modulation, const Visit& visit,
              const NextNorm& next, LayerWorkspace& workspace, StreamRef stream) const;
  NextNorm norm(ConstTensor modulation, const Visit& visit) const;
  size_t bytes() const;

 private:
  int64_t heads_, head_dim_;
  float eps_;
  Linear q_, k_, v_, out_;
  OwnedTensor q_norm_, k_norm_;  // f32 [dim]
};

class CrossAttention {
 public:
  CrossAttention(const Weights& weights, const std::string& block, const TransformerConfig& config,
                 DType compute, StreamRef stream);
  void forward(int64_t layer, Tensor x, const Visit& visit, bool normed, const NextNorm& next,
               LayerWorkspace& workspace, StreamRef stream) const;
  NextNorm norm() const;
  // text: compute dtype [rows (+ 1 padded row), dim], out of the text embedder.
  TextKeys text_keys(ConstTensor text, int64_t rows, int64_t padding, StreamRef stream) const;
  size_t bytes() const;

 private:
  int64_t heads_, head_dim_;
  float eps_;
  Linear q_, k_, v_, out_;
  OwnedTensor q_norm_, k_norm_;          // f32 [dim]
  OwnedTensor norm_weight_, norm_bias_;  // f32 [dim]
};

class FeedForward {
 public:
  FeedForward(const Weights& weights, const std::string& block, const TransformerConfig& config,
              DType compute, StreamRef stream);
  void forward(Tensor x, ConstTensor modulation, const Visit& visit, bool normed,
               const NextNorm& next, LayerWorkspace& workspace, StreamRef stream) const;
  NextNorm norm(ConstTensor modulation, const Visit& visit) const;
  size_t bytes() const;

 private:
  float eps_;
  Linear up_, down_;
};

}  // namespace longtake
