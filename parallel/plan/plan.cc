// Blocks of a video, and which meshes are worth running.
#include "parallel/plan/plan.h"

#include <algorithm>
#include <cstdint>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr ContextRule all_rules[] = {ContextRule::dualparal, ContextRule::aligned,
                                     ContextRule::causal, ContextRule::isolated};

std::string mesh_text(const Mesh& mesh) {
  return fmt::format("{} stage{} x {} branch{}", mesh.stages, mesh.stages == 1 ? "" : "s",
                     mesh.branches, mesh.branches == 1 ? "" : "es");
}

std::string starving_text(const PlanSpec& spec, int64_t depth) {
  const auto blocks = spec.layout.new_blocks();
  const Mesh best =
      best_mesh(spec.mesh.ranks(), spec.steps, spec.stagger, blocks, spec.guided, true);
  const std::string in_blocks =
      blocks
          ? fmt::format("min({} steps / stagger {}, {} blocks)", spec.steps, spec.stagger, *blocks)
          : fmt::format("{} steps / stagger {}", spec.steps, spec.stagger);
  std::string out = fmt::format(
      "{} stages would starve: only {} = {} of them find work at a time; best use of these {} "
      "ranks: {}",
      spec.mesh.stages, in_blocks, depth, spec.mesh.ranks(), mesh_text(best));
  if (best.branches == 2) out += " (each branch holds all weights)";
  const int64_t unused = spec.mesh.ranks() - best.ranks();
  if (unused > 0)
    out +=
        fmt::format(", which leaves {} rank{} for another video", unused, unused == 1 ? "" : "s");
  if (spec.stagger > 1)
    out += fmt::format("; stagger 1 allows {}", useful_depth(spec.steps, 1, blocks));
  return out;
}

std::vector<std::string> range_problems(const PlanSpec& spec) {
  std::vector<std::string> out;
  const auto at_least = [&](const char* what, int64_t found, int64_t least) {
    if (found < least) out.push_back(fmt::format("{} must be >= {}, found {}", what, least, found));
  };
  at_least("stages", spec.mesh.stages, 1);
  at_least("steps", spec.steps, 1);
  at_least("stagger", spec.stagger, 1);
  at_least("frames per block", spec.layout.block_frames, 1);
  at_least("context frames", spec.layout.context_frames, 0);
  if (spec.layout.total_frames) at_least("latent frames", *spec.layout.total_frames, 1);
  if (spec.layout.context_frames > spec.layout.block_frames)
    out.push_back(fmt::format("context frames (overlap) must be <= {} frames per block, found {}",
                              spec.layout.block_frames, spec.layout.context_frames));
  const BlockLayout& layout = spec.layout;
  const bool from_the_start = layout.first_block == 0 && layout.finished_frames == 0;
  const bool goes_on = layout.first_block > 0 && layout.finished_frames >= layout.first_block &&
                       layout.total_frames.value_or(INT64_MAX) > layout.finished_frames;
  if (!from_the_start && !goes_on)
    out.push_back(fmt::format("{} finished blocks of {} latent frames cannot go on to {}",
                              layout.first_block, layout.finished_frames,
                              layout.total_frames.value_or(-1)));
  if (spec.mesh.branches != 1 && spec.mesh.branches != 2)
    out.push_back(fmt::format("branches must be 1 or 2, found {}", spec.mesh.branches));
  if (spec.mesh.branches == 2 && !spec.guided)
    out.push_back("2 branches need guidance: without it there is one branch only");
  return out;
}

void refuse_if_any(const std::vector<std::string>& problems) {
  if (problems.empty()) return;
  std::string out;
  for (const std::string& problem : problems) out += (out.empty() ? "" : "\n") + problem;
  fail(ExitCode::usage, "{}", out);
}

std::vector<std::string> spec_problems(const PlanSpec& spec) {
  std::vector<std::string> out = range_problems(spec);
  if (!out.empty()) return out;
  const int64_t depth = useful_depth(spec.steps, spec.stagger, spec.layout.new_blocks());
  if (spec.mesh.stages > depth) out.push_back(starving_text(spec, depth));
  return out;
}

}  // namespace

const char* name(ContextRule rule) {
  switch (rule) {
    case ContextRule::dualparal:
      return "dualparal";
    case ContextRule::aligned:
      return "aligned";
    case ContextRule::causal:
      return "causal";
    case ContextRule::isolated:
      return "isolated";
  }
  return "?";
}

std::optional<ContextRule> parse_context_rule(const std::string& text) {
  for (const ContextRule rule : all_rules)
    if (text == name(rule)) return rule;
  return std::nullopt;
}

std::optional<int64_t> BlockLayout::blocks() const {
  const auto made = new_blocks();
  return made ? std::optional(first_block + *made) : std::nullopt;
}

std::optional<int64_t> BlockLayout::new_blocks() const {
  if (!total_frames) return std::nullopt;
  if (first_block > 0) return (*total_frames - finished_frames + block_frames - 1) / block_frames;
  const int64_t rest = std::max<int64_t>(0, *total_frames - block_frames - context_frames);
  return 1 + (rest + block_frames - 1) / block_frames;
}

int64_t BlockLayout::first_frame(BlockId block) const {
  if (first_block > 0) {
    LT_CHECK(block.value >= first_block - 1, "block {} is finished, new ones begin at {}",
             block.value, first_block);
    if (block.value < first_block) return std::max<int64_t>(0, finished_frames - context_frames);
    return finished_frames + (block.value - first_block) * block_frames;
  }
  return block.value == 0 ? 0 : block.value * block_frames + context_frames;
}

int64_t BlockLayout::frames(BlockId block) const {
  if (first_block > 0 && block.value < first_block) return finished_frames - first_frame(block);
  const int64_t full = block_frames + (block.value == 0 ? context_frames : 0);
  if (!total_frames) return full;
  const int64_t left = *total_frames - first_frame(block);
  LT_CHECK(block.value >= 0 && left > 0, "block {} is not in a video of {} latent frames",
           block.value, *total_frames);
  return std::min(full, left);
}

int64_t PlanSpec::prefix_token_frames(BlockId block) const {
  if (effective_rule() == ContextRule::isolated || block.value == 0) return 0;
  if (block.value == layout.first_block) return layout.frames({block.value - 1});
  return rule == ContextRule::dualparal ? layout.context_frames : 0;
}

int64_t useful_depth(int64_t steps, int64_t stagger, std::optional<int64_t> blocks) {
  const int64_t in_flight = std::max<int64_t>(1, steps / stagger);
  return blocks ? std::min(in_flight, *blocks) : in_flight;
}

Mesh best_mesh(int64_t ranks, int64_t steps, int64_t stagger, std::optional<int64_t> blocks,
               bool guided, bool fits_two_pipelines) {
  const int64_t depth = useful_depth(steps, stagger, blocks);
  const Mesh one{std::min(ranks, depth), 1};
  if (!guided || !fits_two_pipelines || ranks < 2) return one;
  const Mesh two{std::min(ranks / 2, depth), 2};
  return two.ranks() >= one.ranks() ? two : one;
}

void check_ranges(const PlanSpec& spec) {
  refuse_if_any(range_problems(spec));
}

void check_spec(const PlanSpec& spec) {
  refuse_if_any(spec_problems(spec));
}

void check_spec(const PlanSpec& spec, int64_t ranks) {
  std::vector<std::string> problems = spec_problems(spec);
  if (ranks != spec.mesh.ranks())
    problems.push_back(fmt::format("the mesh of {} needs {} ranks, found {}", mesh_text(spec.mesh),
                                   spec.mesh.ranks(), ranks));
  refuse_if_any(problems);
}

}  // namespace longtake
