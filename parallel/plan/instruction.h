// What a rank does, as data (architecture.md 3). A plan is one list of these per rank; the executor
// has one small function for each and decides nothing.
//
// A visit is one forward of one block at one step through all stages, for all branches that the
// rank's pipeline computes. Versions are explicit: a visit names exactly what it reads, so nothing
// depends on what has already arrived.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "parallel/ids.h"

namespace longtake {

// What travels between ranks. Tokens: residual stream of a visit, stage k -> k + 1. Latent: the new
// version of a block, last stage -> first. Velocity: of one branch, between the two last ranks.
enum class Payload { tokens, latent, velocity };

// Keys and values of a block's first (head) or last (tail) context frames, written at a visit, on
// every rank for the layers it owns (queue.md; golden block_queue README).
enum class Edge { head, tail };
struct Features {
  Edge edge = Edge::head;
  BlockId block;
  StepId step;
  bool operator==(const Features&) const = default;
};

// A block's latents after `version` steps; 0 is noise.
struct Latent {
  BlockId block;
  StepId version;
  bool operator==(const Latent&) const = default;
};

// First and last stage: make the block's noise (version 0); the last also makes its solver state.
struct Admit {
  BlockId block;
  bool operator==(const Admit&) const = default;
};
// First stage, before the first block of a video that is made longer: what the layout says this one
// sees of the finished video, from the latent stream, as the last version of the block before it.
struct Recall {
  Latent latent;
  bool operator==(const Recall&) const = default;
};
// First stage: latents to tokens. With `prefix` (PlanSpec::prefix_token_frames) the last frames of
// that latent are put before the block's own and go through the layers with them.
struct Embed {
  BlockId block;
  StepId step;
  std::optional<Latent> prefix;
  bool operator==(const Embed&) const = default;
};
struct Recv {
  Payload payload;
  BlockId block;
  StepId step;  // of Payload::latent: the version
  RankId from;
  bool operator==(const Recv&) const = default;
};
// Does not wait: the payload is copied or kept until it has left.
struct Send {
  Payload payload;
  BlockId block;
  StepId step;
  RankId to;
  bool operator==(const Send&) const = default;
};
// This stage's layers on the visit's tokens. Reads `prefix` and `suffix`, publishes what is asked
// for.
struct Forward {
  BlockId block;
  StepId step;
  std::optional<Features> prefix, suffix;
  bool prefix_tokens = false;  // the tokens begin with a latent prefix
  bool publish_head = false, publish_tail = false;
  std::vector<Features> reads() const;
  std::vector<Features> writes() const;
  bool operator==(const Forward&) const = default;
};
// Last stage: tokens to the velocity of the own branches.
struct Head {
  BlockId block;
  StepId step;
  bool operator==(const Head&) const = default;
};
// Last stage: guidance and solver; makes version step + 1.
struct SolverStep {
  BlockId block;
  StepId step;
  bool operator==(const SolverStep&) const = default;
};
// Last stage, branch 0: the finished block goes to the latent stream.
struct Emit {
  BlockId block;
  bool operator==(const Emit&) const = default;
};
// Gives memory back: exactly once for everything that was made or received and kept.
struct ReleaseFeatures {
  Features features;
  bool operator==(const ReleaseFeatures&) const = default;
};
struct ReleaseLatent {
  Latent latent;
  bool operator==(const ReleaseLatent&) const = default;
};
struct ReleaseSolver {
  BlockId block;
  bool operator==(const ReleaseSolver&) const = default;
};

using Instruction = std::variant<Admit, Embed, Recv, Send, Forward, Head, SolverStep, Emit,
                                 ReleaseFeatures, ReleaseLatent, ReleaseSolver, Recall>;

const char* name(Payload payload);
const char* name(Edge edge);

// One line, for instance "forward b7 s12 prefix tail(b6 s12) suffix head(b8 s11) publish head
// tail"; "prefix tokens" stands for prefix_tokens.
std::string to_text(const Instruction& instruction);
// The inverse; fails with bad_data naming the text.
Instruction parse_instruction(const std::string& line);

}  // namespace longtake
