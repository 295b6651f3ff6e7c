#include "parallel/cost/cost_model.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr SubLayer parts[] = {SubLayer::self_attention, SubLayer::cross_attention,
                              SubLayer::feed_forward};

int64_t branches_per_rank(const PlanSpec& plan) {
  return plan.guided && plan.mesh.branches == 1 ? 2 : 1;
}

int64_t units_in(const UnitRange& range, SubLayer part) {
  const auto before = [&](int64_t end) { return (end + 2 - static_cast<int64_t>(part)) / 3; };
  return before(range.end) - before(range.begin);
}

// Latents that guidance and one UniPC step read or write.
constexpr double solver_passes = 12;

}  // namespace

VisitShape full_visit(const PlanSpec& plan, const ModelShape& model) {
  const int64_t own = plan.layout.block_frames, c = plan.layout.context_frames,
                frame = model.tokens_per_frame();
  switch (plan.effective_rule()) {
    case ContextRule::dualparal:
      return {(own + c) * frame, (own + 2 * c) * frame};
    case ContextRule::aligned:
      return {own * frame, (own + 2 * c) * frame};
    case ContextRule::causal:
      return {own * frame, (own + c) * frame};
    default:
      return {own * frame, own * frame};
  }
}

std::vector<StageUnits> share_out_units(const PlanSpec& plan, const ModelShape& model,
                                        const HardwareProfile& hardware) {
  const VisitShape visit = full_visit(plan, model);
  const auto branches = static_cast<double>(branches_per_rank(plan));
  const std::vector<double> units = unit_seconds(model, visit, hardware);
  EndCosts ends{embed_seconds(model, visit.tokens, hardware),
                branches * head_seconds(model, visit.tokens, hardware)};
  ends.last += static_cast<double>(plan.layout.block_frames) * model.decode_flops_per_frame /
               hardware.conv_flops / static_cast<double>(plan.steps);
  return partition_units(units, ends, plan.mesh.stages, branches_per_rank(plan));
}

CostModel::CostModel(const PlanSpec& plan, const ModelShape& model, const HardwareProfile& hardware,
                     std::vector<StageUnits> stages)
    : plan_(plan), model_(model), hardware_(hardware), stages_(std::move(stages)) {
  LT_CHECK(static_cast<int64_t>(stages_.size()) == plan.mesh.stages,
           "expected the sub-layers of {} stages, found {}", plan.mesh.stages, stages_.size());
  for (const double rate : {hardware.linear_flops, hardware.attention_flops, hardware.conv_flops,
                            hardware.memory_bandwidth, hardware.link_bandwidth})
    LT_CHECK(rate > 0, "a hardware profile needs rates above 0, found {}", rate);
}

const StageUnits& CostModel::units(RankId rank) const {
  return stages_[static_cast<size_t>(plan_.mesh.stage(rank).value)];
}

int64_t CostModel::units_of(RankId rank, SubLayer part) const {
  const StageUnits& own = units(rank);
  const int64_t conditional = units_in(own.conditional, part);
  return local_branches() == 1 ? conditional : conditional + units_in(own.unconditional, part);
}

int64_t CostModel::local_branches() const {
  return branches_per_rank(plan_);
}

int64_t CostModel::tokens(BlockId block) const {
  const int64_t frames = plan_.layout.frames(block) + plan_.prefix_token_frames(block);
  return frames * model_.tokens_per_frame();
}

VisitShape CostModel::visit(const Forward& forward) const {
  const int64_t c = plan_.layout.context_frames, frame = model_.tokens_per_frame();
  VisitShape out{tokens(forward.block), tokens(forward.block)};
  if (forward.prefix) out.keys += c * frame;
  if (forward.suffix) out.keys += std::min(c, plan_.layout.frames(forward.suffix->block)) * frame;
  return out;
}

CostModel::Calls CostModel::attention_calls(RankId rank) const {
  const StageUnits& own = units(rank);
  const auto of = [](const UnitRange& range) { return units_in(range, SubLayer::self_attention); };
  return {of(own.conditional), local_branches() == 1 ? 0 : of(own.unconditional)};
}

double CostModel::visit_seconds(RankId rank, const VisitShape& shape) const {
  double out = 0;
  for (const SubLayer part : parts)
    out += static_cast<double>(units_of(rank, part)) *
           longtake::seconds(part, model_, shape, hardware_);
  return out;
}

// A message is copied into its buffer, and out of it.
double CostModel::seconds(RankId rank, const Instruction& instruction) const {
  const auto copy = [&](double bytes) { return 2 * bytes / hardware_.memory_bandwidth; };
  if (const auto* i = std::get_if<Forward>(&instruction)) return visit_seconds(rank, visit(*i));
  if (const auto* i = std::get_if<Embed>(&instruction))
    return embed_seconds(model_, tokens(i->block), hardware_);
  if (const auto* i = std::get_if<Head>(&instruction))
    return static_cast<double>(local_branches()) *
           head_seconds(model_, tokens(i->block), hardware_);
  if (const auto* i = std::get_if<Send>(&instruction))
    return copy(message_bytes(i->payload, i->block));
  if (const auto* i = std::get_if<Recv>(&instruction))
    return copy(message_bytes(i->payload, i->block));
  if (const auto* i = std::get_if<SolverStep>(&instruction))
    return solver_passes * block_bytes(i->block) / hardware_.memory_bandwidth +
           hardware_.operator_s;
  if (const auto* i = std::get_if<Admit>(&instruction)) return copy(block_bytes(i->block));
  if (const auto* i = std::get_if<Emit>(&instruction))
    return plan_.mesh.ranks() == 1 ? decode_seconds(i->block) : 0;
  return 0;
}

double CostModel::decode_seconds(BlockId block) const {
  return static_cast<double>(plan_.layout.frames(block)) * model_.decode_flops_per_frame /
         hardware_.conv_flops;
}

// With several ranks the one that finishes blocks decodes them while it waits for others.
double CostModel::background_seconds(RankId, const Instruction& instruction) const {
  const auto* i = std::get_if<Emit>(&instruction);
  return i && plan_.mesh.ranks() > 1 ? decode_seconds(i->block) : 0;
}

double CostModel::link_seconds(RankId from, const Send& send) const {
  return hardware_.link_latency_s + message_bytes(from, send) / hardware_.link_bandwidth;
}

double CostModel::message_bytes(RankId, const Send& send) const {
  return message_bytes(send.payload, send.block);
}

double CostModel::message_bytes(Payload payload, BlockId block) const {
  if (payload != Payload::tokens) return block_bytes(block);
  return 4.0 * static_cast<double>(local_branches() * tokens(block) * model_.dim);
}

double CostModel::block_bytes(BlockId block) const {
  return 4.0 * static_cast<double>(model_.out_channels * plan_.layout.frames(block) *
                                   model_.latent_rows * model_.latent_columns);
}

double CostModel::latent_bytes(RankId, const Latent& latent) const {
  return block_bytes(latent.block);
}

// Keys and values in slabs of the most context rows, also where a block has fewer.
double CostModel::features_bytes(RankId rank, const Features&) const {
  const int64_t rows = plan_.layout.context_frames * model_.tokens_per_frame();
  return 2.0 * static_cast<double>(units_of(rank, SubLayer::self_attention)) *
         static_cast<double>(rows * model_.dim * model_.dtype_bytes);
}

// The latent, the one before it and two predictions.
double CostModel::solver_bytes(RankId, BlockId block) const {
  return 4 * block_bytes(block);
}

double CostModel::weight_bytes(RankId rank) const {
  int64_t count = end_parameters(model_);
  for (const SubLayer part : parts)
    count += units_in(units(rank).hull(), part) * parameters(part, model_);
  return static_cast<double>(model_.experts * count) * static_cast<double>(model_.dtype_bytes);
}

// Of the VAE only where blocks are finished.
double CostModel::fixed_bytes(RankId rank) const {
  const bool decodes = plan_.mesh.last(rank) && plan_.mesh.branch(rank).value == 0;
  return weight_bytes(rank) + workspace_bytes() + table_bytes(rank) +
         (decodes ? model_.decode_bytes : 0);
}

// Keys of the text in each branch; a modulation for each step; tables of
// the windows with both neighbours, with one (two kinds) and with none; at the last stage the
// branches' velocities, the guided one and the solver's newest prediction.
double CostModel::table_bytes(RankId rank) const {
  constexpr double windows = 4;
  const auto text_rows = static_cast<double>(model_.text_rows);
  const auto d = static_cast<double>(model_.dim), s = static_cast<double>(model_.dtype_bytes);
  const auto layers = static_cast<double>(units_of(rank, SubLayer::cross_attention));
  const VisitShape full = full_visit(plan_, model_);
  double out = layers * text_rows * 2 * d * s + static_cast<double>(plan_.steps) * 7 * d * 4;
  out += windows * static_cast<double>(full.keys) * d / static_cast<double>(model_.heads) * 4;
  if (plan_.mesh.last(rank)) out += 4 * block_bytes({plan_.layout.first_block});
  // Attention packs keys and values, some heads at a time.
  constexpr double group = 64 << 20;
  const double packed = 2 * static_cast<double>(full.keys) * d * s;
  return out + std::min(packed, std::max(group, packed / static_cast<double>(model_.heads)));
}

// Per branch the f32 stream; normed, q, k, v, attended, the feed-forward's inner rows, and the
// positioned keys of prefix and suffix.
double CostModel::workspace_bytes() const {
  const int64_t c = plan_.layout.context_frames, frame = model_.tokens_per_frame();
  int64_t frames = plan_.layout.block_frames + c;
  if (plan_.layout.total_frames) frames = std::min(frames, *plan_.layout.total_frames);
  const auto n = static_cast<double>(frames * frame), d = static_cast<double>(model_.dim),
             s = static_cast<double>(model_.dtype_bytes);
  const auto context = static_cast<double>(2 * c * frame);
  return 4 * static_cast<double>(local_branches()) * n * d +
         s * (n * (5 * d + static_cast<double>(model_.ffn)) + context * d);
}

}  // namespace longtake
