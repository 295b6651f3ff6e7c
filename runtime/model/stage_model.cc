#include "runtime/model/stage_model.h"

#include <array>

namespace longtake {

StageModel::StageModel(const ModelFolder& folder, const Guidance& guidance,
                       const PromptSet& prompts, StageSpec spec, StreamRef stream)
    : folder_(folder), guidance_(guidance), prompts_(prompts), spec_(std::move(spec)) {
  LT_CHECK(!spec_.timesteps.empty() && !prompts.positive.empty(),
           "a stage needs steps and a prompt");
  LT_CHECK(!guidance.guided() || prompts.negative, "guidance needs a negative prompt's embedding");
  if (!guidance_.boundary_ratio) guidance_.boundary_ratio = folder.boundary_ratio;
  expert(0, stream);  // read now: what is wrong with the weights shows before any work
}

size_t StageModel::weight_bytes() const {
  size_t total = 0;
  for (const Expert& e : experts_) total += e.transformer ? e.transformer->weight_bytes() : 0;
  return total;
}

int StageModel::expert_of(int64_t step) const {
  if (folder_.transformer_2.empty() || !guidance_.boundary_ratio) return 0;
  return spec_.timesteps.at(static_cast<size_t>(step)) >= *guidance_.boundary_ratio * 1000.0 ? 0
                                                                                             : 1;
}

double StageModel::scale_of(int64_t step) const {
  return expert_of(step) == 1 ? guidance_.low_noise.value_or(guidance_.scale) : guidance_.scale;
}

StageModel::Expert& StageModel::expert(int64_t step, StreamRef stream) {
  const int index = expert_of(step);
  Expert& e = experts_[index];
  if (e.transformer) return e;
  if (spec_.one_block)
    experts_[1 - index] = Expert{};  // before the other comes: never both in memory
  const Weights weights(index == 0 ? folder_.transformer : folder_.transformer_2,
                        WeightsOf::transformer);
  e.transformer.emplace(weights, config(), spec_.units.hull(), spec_.compute, stream);
  return e;
}

const Modulation& StageModel::modulation(Expert& e, int64_t step, StreamRef stream) {
  const auto found = e.modulations.find(step);
  if (found != e.modulations.end()) return found->second;
  const std::array<double, 1> timestep{spec_.timesteps.at(static_cast<size_t>(step))};
  return e.modulations.emplace(step, e.transformer->modulate(timestep, {}, stream)).first->second;
}

void StageModel::embed(int64_t step, ConstTensor latent, Tensor x, StreamRef stream) {
  expert(step, stream).transformer->embed(latent, x, stream);
}

void StageModel::fill_in(Expert& e, int64_t step, int64_t prompt, BranchVisit& visit,
                         StreamRef stream) {
  const std::pair<int, int64_t> key{visit.branch, visit.branch == conditional ? prompt : 0};
  auto text = e.text.find(key);
  if (text == e.text.end()) {
    const OwnedTensor& rows = visit.branch == conditional
                                  ? prompts_.positive.at(static_cast<size_t>(prompt))
                                  : prompts_.negative;
    text =
        e.text.emplace(key, e.transformer->text_context(units(visit.branch), rows, stream)).first;
  }
  visit.visit.modulation = &modulation(e, step, stream);
  visit.visit.text = &text->second;
}

void StageModel::forward(int64_t step, int64_t prompt, BranchVisit visit, StreamRef stream) {
  Expert& e = expert(step, stream);
  fill_in(e, step, prompt, visit, stream);
  e.transformer->forward(units(visit.branch), visit.x, visit.visit, stream);
}

void StageModel::forward_in_turn(int64_t step, int64_t prompt, std::span<BranchVisit> visits,
                                 StreamRef stream) {
  Expert& e = expert(step, stream);
  std::vector<Transformer::Pass> passes;
  for (size_t i = 0; i < visits.size(); ++i) {
    fill_in(e, step, prompt, visits[i], stream);
    passes.push_back(
        e.transformer->begin(units(visits[i].branch), visits[i].x, visits[i].visit, i, stream));
  }
  for (size_t under_way = passes.size(); under_way > 0;)
    std::erase_if(passes, [&](Transformer::Pass& pass) {
      if (e.transformer->advance(pass, stream)) return false;
      --under_way;
      return true;
    });
}

void StageModel::forget_prompts_before(int64_t prompt) {
  for (Expert& e : experts_)
    std::erase_if(e.text, [&](const auto& entry) {
      const auto& [branch, of] = entry.first;
      return branch == conditional && of < prompt;
    });
}

void StageModel::head(int64_t step, ConstTensor x, const TokenGrid& grid, Tensor velocity,
                      StreamRef stream) {
  Expert& e = expert(step, stream);
  e.transformer->head(x, modulation(e, step, stream), grid, velocity, stream);
}

TokenGrid StageModel::grid_of(const Shape& latent) const {
  return token_grid(config(), latent);
}

}  // namespace longtake
