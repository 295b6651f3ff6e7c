#include "runtime/exec/denoiser.h"

#include <array>

#include "kernels/elementwise.h"

namespace longtake {

Denoiser::Denoiser(const ModelFolder& folder, const Guidance& guidance,
                   const Conditions& conditions, DType compute)
    : folder_(folder), guidance_(guidance), conditions_(conditions), compute_(compute) {
  if (!guidance_.boundary_ratio) guidance_.boundary_ratio = folder.boundary_ratio;
}

int Denoiser::expert_of(double timestep) const {
  if (folder_.transformer_2.empty() || !guidance_.boundary_ratio) return 0;
  return timestep >= *guidance_.boundary_ratio * 1000.0 ? 0 : 1;
}

double Denoiser::scale_of(int expert) const {
  return expert == 1 ? guidance_.low_noise.value_or(guidance_.scale) : guidance_.scale;
}

void Denoiser::load(double timestep, StreamRef stream) {
  const int expert = expert_of(timestep);
  if (expert == expert_) return;
  transformer_.reset();  // before the other comes: never two in memory
  const Weights weights(expert == 0 ? folder_.transformer : folder_.transformer_2,
                        WeightsOf::transformer);
  const TransformerConfig& config = folder_.transformer_config;
  transformer_.emplace(weights, config, Transformer::all_units(config), compute_, stream);
  positive_ = transformer_->text_context(conditions_.positive, stream);
  if (scale_of(expert) > 1) negative_ = transformer_->text_context(conditions_.negative, stream);
  expert_ = expert;
}

void Denoiser::run_branch(const TextContext& text, const Modulation& modulation, ConstTensor latent,
                          Tensor velocity, StreamRef stream) {
  const TokenGrid grid = transformer_->grid_of(latent.shape);
  const Shape shape{grid.tokens(), folder_.transformer_config.dim()};
  if (!tokens_ || tokens_.shape() != shape) tokens_ = OwnedTensor(DType::f32, shape);
  Visit visit;
  visit.grid = grid;
  visit.modulation = &modulation;
  visit.text = &text;
  transformer_->embed(latent, tokens_, stream);
  transformer_->forward(tokens_, visit, stream);
  transformer_->head(tokens_, modulation, grid, velocity, stream);
}

void Denoiser::velocity(ConstTensor latent, double timestep, Tensor velocity, StreamRef stream) {
  load(timestep, stream);
  const std::array<double, 1> timesteps{timestep};
  const Modulation modulation = transformer_->modulate(timesteps, {}, stream);
  const double scale = scale_of(expert_);
  for (OwnedTensor& branch : branches_)
    if (!branch || branch.shape() != velocity.shape)
      branch = OwnedTensor(DType::f32, velocity.shape);
  run_branch(positive_, modulation, latent, branches_[0], stream);
  if (scale <= 1) {
    convert(branches_[0], velocity, stream);
    return;
  }
  run_branch(negative_, modulation, latent, branches_[1], stream);
  const std::array<ConstTensor, 2> both{branches_[1], branches_[0]};
  const std::array<float, 2> weight{static_cast<float>(1.0 - scale), static_cast<float>(scale)};
  linear_combination(both, weight, velocity, stream);
}

}  // namespace longtake
