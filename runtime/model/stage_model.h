// What one stage computes of the guided velocity (wan.md 1, 7): its layers of the expert that the
// step asks for, for any block's prompt and either guidance branch. Text keys are made once per
// prompt and branch, modulations once per step.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/model/transformer.h"

namespace longtake {

// Text embeddings f32 [rows, text_dim]; `negative` is empty without guidance.
struct PromptSet {
  std::vector<OwnedTensor> positive;
  OwnedTensor negative;
};

struct Guidance {
  double scale = 5.0;                    // v = u + scale (c - u)
  std::optional<double> low_noise;       // of the second expert; default: scale
  std::optional<double> boundary_ratio;  // default: the model's

  // Is there an unconditional branch at all?
  bool guided() const { return scale > 1 || low_noise.value_or(scale) > 1; }
};

struct StageSpec {
  StageUnits units;
  DType compute = DType::f32;
  std::vector<double> timesteps;  // of the solver's steps
  bool one_block = false;         // the video is one block: the experts follow each other
};

class StageModel {
 public:
  enum Branch { conditional = 0, unconditional = 1 };

  // `folder` and `prompts` must live as long as the model.
  StageModel(const ModelFolder& folder, const Guidance& guidance, const PromptSet& prompts,
             StageSpec spec, StreamRef stream);

  const TransformerConfig& config() const { return folder_.transformer_config; }
  const StageSpec& spec() const { return spec_; }
  size_t weight_bytes() const;
  // 0: the only or the high-noise expert, 1: the low-noise one.
  int expert_of(int64_t step) const;
  double scale_of(int64_t step) const;

  // latent f32 [channels, frames, height, width] -> x f32 [tokens, dim]; first stage only.
  void embed(int64_t step, ConstTensor latent, Tensor x, StreamRef stream);
  // A visit of one branch; modulation and text are filled in here.
  struct BranchVisit {
    Branch branch = conditional;
    Visit visit;
    Tensor x;
  };
  // This stage's layers on x in place.
  void forward(int64_t step, int64_t prompt, BranchVisit visit, StreamRef stream);
  // Both branches in turn, each going on while the other's self-attention is computed elsewhere.
  void forward_in_turn(int64_t step, int64_t prompt, std::span<BranchVisit> visits,
                       StreamRef stream);
  // Lets go of what was made for prompts before this one; should one come again, it is made again.
  void forget_prompts_before(int64_t prompt);
  // x -> velocity f32 [channels, frames, height, width]; last stage only.
  void head(int64_t step, ConstTensor x, const TokenGrid& grid, Tensor velocity, StreamRef stream);
  TokenGrid grid_of(const Shape& latent) const;

 private:
  struct Expert {
    std::optional<Transformer> transformer;
    std::map<int64_t, Modulation> modulations;            // by step
    std::map<std::pair<int, int64_t>, TextContext> text;  // by branch and prompt
  };
  Expert& expert(int64_t step, StreamRef stream);
  UnitRange units(Branch branch) const {
    return branch == conditional ? spec_.units.conditional : spec_.units.unconditional;
  }
  void fill_in(Expert& expert, int64_t step, int64_t prompt, BranchVisit& visit, StreamRef stream);
  const Modulation& modulation(Expert& expert, int64_t step, StreamRef stream);

  const ModelFolder& folder_;
  Guidance guidance_;
  const PromptSet& prompts_;
  StageSpec spec_;
  Expert experts_[2];
};

}  // namespace longtake
