// The schedule of a video on a mesh, made sweep by sweep: memory does not grow with the video.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/plan/instruction.h"

namespace longtake {

enum class ContextRule { dualparal, aligned, causal, isolated };
const char* name(ContextRule rule);
std::optional<ContextRule> parse_context_rule(const std::string& text);

// Buffers that each end of a channel needs so that no plan deadlocks (make_plan.cc, check.h).
inline constexpr int64_t channel_depth = 2;

// How a video is cut into blocks of latent frames: block 0 has block_frames + context_frames
// frames, the others block_frames, the last may be shorter.
//
// A finished video that is made longer keeps its blocks, the last one as short as it is: the plan
// is of the blocks from first_block on, which begin where the finished frames end. Block
// first_block - 1 then stands for what the new ones see of the finished video: its last
// context_frames latent frames, or all of them where it has fewer, whichever blocks they are in.
struct BlockLayout {
  int64_t block_frames = 8;             // B
  int64_t context_frames = 4;           // c <= B; 0: every rule is `isolated`
  std::optional<int64_t> total_frames;  // empty: unbounded
  int64_t first_block = 0;              // of this plan
  int64_t finished_frames = 0;          // of the blocks before it

  std::optional<int64_t> blocks() const;  // M, with those before first_block
  std::optional<int64_t> new_blocks() const;
  int64_t first_frame(BlockId block) const;
  int64_t frames(BlockId block) const;  // own frames of a block
};

struct PlanSpec {
  Mesh mesh;
  BlockLayout layout;
  int64_t steps = 1;    // Q
  int64_t stagger = 1;  // r >= 1: steps between neighbouring blocks
  ContextRule rule = ContextRule::aligned;
  bool guided = true;  // with branches = 2 it must be

  // Without context frames every rule is `isolated`.
  ContextRule effective_rule() const {
    return layout.context_frames == 0 ? ContextRule::isolated : rule;
  }
  // Latent frames before a block's own that go through all layers as tokens and whose output is
  // dropped. `dualparal`: c of the block before. Any rule with context, the first block after a
  // finished video: what the layout says it sees of that, clean at every step, because features of
  // finished blocks are not kept.
  int64_t prefix_token_frames(BlockId block) const;
  // From `steps` on every block is finished before the next one enters.
  int64_t effective_stagger() const { return std::min(stagger, steps); }
};

// Stages that always find work: min(Q / r, M), at least 1 (architecture.md 3).
int64_t useful_depth(int64_t steps, int64_t stagger, std::optional<int64_t> blocks);

// The best use of `ranks`: one pipeline per guidance branch where two full pipelines fit in memory
// and that leaves no rank more unused than one pipeline does; never deeper than useful_depth.
Mesh best_mesh(int64_t ranks, int64_t steps, int64_t stagger, std::optional<int64_t> blocks,
               bool guided, bool fits_two_pipelines);

// Fails with ExitCode::usage, with every problem: values out of range, and a mesh that starves
// (stages > useful_depth), with the reason and the best use of these ranks.
void check_spec(const PlanSpec& spec);
// The first part only: a starving mesh is slow, not wrong.
void check_ranges(const PlanSpec& spec);
// All of it, and the job must have exactly the ranks of the mesh.
void check_spec(const PlanSpec& spec, int64_t ranks);

// Instructions of all ranks, one sweep after the other. Sweep i visits every live block b at step
// i - b r, newest first (`causal`: oldest first); r counts as Q where it is larger, and b from the
// layout's first_block.
class PlanMaker {
 public:
  // Any valid spec, also one whose mesh starves: check_spec decides what is worth running. A plan
  // that begins later goes on from what held_before() says each rank holds there; nothing is on its
  // way between ranks.
  explicit PlanMaker(PlanSpec spec, int64_t begin = 0);

  const PlanSpec& spec() const { return spec_; }
  int64_t sweep() const { return sweep_; }  // the next one
  std::optional<int64_t> sweeps() const;    // (M - 1) min(r, Q) + Q, M new blocks
  bool done() const;
  // Appends the next sweep's instructions of one rank. Every rank's list is made by its own
  // PlanMaker or by one for all: next() moves on.
  void append(RankId rank, std::vector<Instruction>& out) const;
  void next() { ++sweep_; }

 private:
  PlanSpec spec_;
  int64_t begin_, sweep_;
};

// All ranks' lists of a bounded video.
std::vector<std::vector<Instruction>> make_plan(const PlanSpec& spec);

}  // namespace longtake
