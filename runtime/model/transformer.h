// A Wan diffusion transformer, or the contiguous run of its sub-layers that one stage owns
// (wan.md 2.2).
#pragma once

#include <array>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "kernels/repeated_work.h"
#include "parallel/partition.h"
#include "runtime/model/transformer_layer.h"

namespace longtake {

// Tokens of a latent [channels, frames, height, width]; fails when it does not fit the patches.
TokenGrid token_grid(const TransformerConfig& config, const Shape& latent);

class Transformer {
 public:
  // Reads the weights of `units` only; of the embedders each stage has its own copy.
  Transformer(const Weights& weights, const TransformerConfig& config, UnitRange units,
              DType compute, StreamRef stream);

  static UnitRange all_units(const TransformerConfig& config) { return {0, 3 * config.layers}; }
  const TransformerConfig& config() const { return config_; }
  DType compute() const { return compute_; }
  size_t weight_bytes() const;

  // The distinct timesteps and, when there are several, which one each token has.
  Modulation modulate(std::span<const double> timesteps, std::span<const int32_t> row,
                      StreamRef stream) const;

  // text f32 [rows <= text_length, text_dim] -> keys of every cross-attention among the units.
  TextContext text_context(UnitRange units, ConstTensor text, StreamRef stream) const;
  TextContext text_context(ConstTensor text, StreamRef stream) const {
    return text_context(units_, text, stream);
  }

  // latent f32 [channels, frames, height, width] -> tokens x f32 [tokens, dim].
  void embed(ConstTensor latent, Tensor x, StreamRef stream) const;
  // Runs those of this stage's sub-layers on x f32 [tokens, dim] in place.
  void forward(UnitRange units, Tensor x, const Visit& visit, StreamRef stream);
  void forward(Tensor x, const Visit& visit, StreamRef stream) {
    forward(units_, x, visit, stream);
  }

  // The same in parts, for visits whose self-attention is computed elsewhere (visit.exchange): each
  // part ends where a self-attention was begun, so that another visit can go on meanwhile. Visits
  // under way at the same time have different workspaces.
  class Pass;
  Pass begin(UnitRange units, Tensor x, const Visit& visit, size_t workspace, StreamRef stream);
  // False: the visit is done.
  bool advance(Pass& pass, StreamRef stream);
  static constexpr size_t kWorkspaces = 2;

  // x -> velocity f32 [out_channels, frames, height, width].
  void head(ConstTensor x, const Modulation& modulation, const TokenGrid& grid, Tensor velocity,
            StreamRef stream) const;

 private:
  struct Layer {
    std::optional<SelfAttention> self;
    std::optional<CrossAttention> cross;
    std::optional<FeedForward> ffn;
    OwnedTensor table;  // f32 [6 * dim]
  };
  void forward_unit(Pass& pass, StreamRef stream);
  void begin_attention(Pass& pass, StreamRef stream);
  void end_attention(Pass& pass, StreamRef stream);
  ConstTensor layer_modulation(int64_t layer, const Pass& pass, StreamRef stream);
  NextNorm next_norm(const Pass& pass, StreamRef stream);
  std::optional<RepeatedWork::Key> visit_key(const Pass& pass, StreamRef stream) const;
  const RopeTable& rope(const TokenGrid& window, StreamRef stream);

  TransformerConfig config_;
  UnitRange units_;
  DType compute_;
  std::vector<Layer> layers_;  // [config.layers], empty where another stage owns all of it
  Linear patch_, time_1_, time_2_, time_proj_, text_1_, text_2_, proj_out_;
  OwnedTensor head_table_;  // f32 [2 * dim]
  std::array<LayerWorkspace, kWorkspaces> workspaces_;
  RepeatedWork visits_;
  std::vector<std::pair<TokenGrid, RopeTable>> ropes_;  // by window, on the stream's device
};

// Where a visit stands between two parts.
class Transformer::Pass {
  friend class Transformer;
  UnitRange units;
  Tensor x;
  Visit visit;
  VisitRope positions;
  LayerWorkspace* workspace = nullptr;
  int64_t unit = 0;  // next
  PreparedAttention attention;
  StartedAttention begun;  // elsewhere, of `unit`
};

}  // namespace longtake
