#include "parallel/plan/visit_oracle.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

VisitOracle::VisitOracle(const PlanSpec& spec)
    : rule_(spec.layout.context_frames > 0 ? spec.rule : ContextRule::isolated),
      steps_(spec.steps),
      stagger_(std::min(spec.stagger, spec.steps)),  // more only adds empty sweeps
      first_block_(spec.layout.first_block),
      blocks_(spec.layout.blocks()) {}

bool VisitOracle::past_the_end(int64_t index) const {
  return blocks_ && index - (*blocks_ - 1 - first_block_) * stagger_ >= steps_;
}

const std::vector<ExpectedVisit>& VisitOracle::sweep(int64_t index) {
  LT_CHECK(index >= base_, "sweep {} was forgotten", index);
  while (base_ + static_cast<int64_t>(window_.size()) <= index)
    window_.push_back(visits(base_ + static_cast<int64_t>(window_.size())));
  return window_[static_cast<size_t>(index - base_)];
}

void VisitOracle::forget_before(int64_t index) {
  for (; base_ < index && !window_.empty(); ++base_) window_.pop_front();
}

std::vector<ExpectedVisit> VisitOracle::visits(int64_t index) const {
  std::vector<ExpectedVisit> out;
  for (int64_t n = std::max<int64_t>(0, (index - steps_) / stagger_ - 1);
       exists({first_block_ + n}) && n * stagger_ <= index; ++n)
    if (index - n * stagger_ < steps_) out.push_back(visit(index, first_block_ + n));
  if (rule_ != ContextRule::causal) std::reverse(out.begin(), out.end());
  return out;
}

ExpectedVisit VisitOracle::visit(int64_t index, int64_t block) const {
  // Visits that a block has begun or done when its visit of this sweep, if any, is over.
  const auto step_in_sweep = [&](int64_t b) { return index - (b - first_block_) * stagger_; };
  ExpectedVisit out{{block}, {step_in_sweep(block)}, {}, {}, {}};
  const bool older = block > first_block_;
  const int64_t older_step = step_in_sweep(block - 1), newer_step = step_in_sweep(block + 1);
  if (rule_ != ContextRule::isolated && !older && block > 0)  // of a finished video: clean
    out.latent_prefix = Latent{{block - 1}, {steps_}};
  if (rule_ == ContextRule::dualparal && older)  // as it stands when the sweep begins
    out.latent_prefix = Latent{{block - 1}, {std::clamp<int64_t>(older_step, 0, steps_)}};
  if (rule_ == ContextRule::aligned && older)  // same noise level
    out.prefix = Features{Edge::tail, {block - 1}, out.step};
  if (rule_ == ContextRule::causal && older)  // visited just before, or its last visit
    out.prefix = Features{Edge::tail, {block - 1}, {std::min(older_step, steps_ - 1)}};
  const bool looks_ahead = rule_ == ContextRule::dualparal || rule_ == ContextRule::aligned;
  if (looks_ahead && exists({block + 1}) && newer_step >= 0)  // visited just before
    out.suffix = Features{Edge::head, {block + 1}, {newer_step}};
  return out;
}

}  // namespace longtake
