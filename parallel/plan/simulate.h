// Discrete-event simulation of a plan against a cost model: ranks work in order, a Send does not
// wait, a Recv waits until the message has arrived. Messages of one channel follow each other on
// its link. Plans that `check` refuses are not simulated.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "parallel/plan/plan.h"

namespace longtake {

// Background work of so many instructions may be left undone, in a video without end, before the
// rank waits for it: it must keep up. A bounded video leaves what it likes for the end.
inline constexpr int background_queue = 8;

// Seconds and bytes of everything a plan does.
class Costs {
 public:
  virtual ~Costs() = default;
  virtual double seconds(RankId rank, const Instruction& instruction) const = 0;
  virtual double link_seconds(RankId from, const Send& send) const = 0;
  virtual double message_bytes(RankId from, const Send& send) const = 0;
  virtual double latent_bytes(RankId rank, const Latent& latent) const = 0;
  virtual double features_bytes(RankId rank, const Features& features) const = 0;
  virtual double solver_bytes(RankId rank, BlockId block) const = 0;
  virtual double fixed_bytes(RankId rank) const = 0;  // weights and workspace
  // Work that the instruction leaves to the rank's spare time (decoding): it goes on while the rank
  // waits, and after its last instruction.
  virtual double background_seconds(RankId, const Instruction&) const { return 0; }
  virtual double spare_speed() const { return 1; }  // of it when all instructions are done
};

// Every stage visit takes one slot, all else nothing, links are free; nothing has a size.
class UniformCosts : public Costs {
 public:
  double seconds(RankId, const Instruction& instruction) const override {
    return std::holds_alternative<Forward>(instruction) ? 1 : 0;
  }
  double link_seconds(RankId, const Send&) const override { return 0; }
  double message_bytes(RankId, const Send&) const override { return 0; }
  double latent_bytes(RankId, const Latent&) const override { return 0; }
  double features_bytes(RankId, const Features&) const override { return 0; }
  double solver_bytes(RankId, BlockId) const override { return 0; }
  double fixed_bytes(RankId) const override { return 0; }
};

struct SimulatedRank {
  double busy_s = 0;        // with background_s
  double wait_s = 0;        // in Recv, also while the background works
  double end_s = 0;         // of the last instruction
  double background_s = 0;  // done so far
  double backlog_s = 0;     // left to the background
  // fixed, what is alive, and the channels' buffers; of that, the most that features took
  double peak_bytes = 0, channel_bytes = 0, features_bytes = 0;
};

struct SimulatedLink {
  RankId from, to;
  Payload payload = Payload::tokens;
  int64_t messages = 0;
  double bytes = 0, busy_s = 0;
};

struct Simulation {
  double makespan_s = 0;                              // with what the background has left
  double instructions_s = 0;                          // without
  std::optional<double> first_block_s, last_block_s;  // when Emit ended
  int64_t blocks = 0;                                 // emitted
  std::vector<SimulatedRank> ranks;
  std::vector<SimulatedLink> links;  // by (from, to, payload)

  double idle_s(RankId rank) const {
    return makespan_s - ranks[static_cast<size_t>(rank.value)].busy_s;
  }
  double idle_share() const;  // of all ranks' time
};

// One instruction of one rank; a Recv begins when its message is there. `index` counts the rank's
// instructions.
struct SimulatedEvent {
  RankId rank;
  int64_t index;
  double begin_s, end_s;
  const Instruction& instruction;
};
using EventSink = std::function<void(const SimulatedEvent&)>;

// Feed it sweep by sweep: what was played is forgotten.
class Simulator {
 public:
  Simulator(const Mesh& mesh, const Costs& costs, bool endless = false, EventSink sink = {},
            int64_t depth = channel_depth);

  void add(RankId rank, std::span<const Instruction> list);
  void add_sweep(const PlanMaker& maker);  // of all ranks
  // Goes on until no rank can.
  void play();
  Simulation result() const;  // so far

 private:
  struct Message {
    BlockId block;
    StepId step;
    double arrival_s;
  };
  struct Link {
    SimulatedLink load;
    double free_s = 0, largest_bytes = 0;
    std::deque<Message> messages;
  };
  struct Rank {
    SimulatedRank out;
    double bytes = 0, features_bytes = 0;
    std::vector<Instruction> list;
    size_t next = 0;
    int64_t index = 0;
  };

  std::vector<Instruction>& open_backlog(RankId rank);
  bool step(RankId rank);
  void wait(Rank& rank, double until);
  void leave_behind(Rank& rank, double seconds);
  void account(RankId rank, const Instruction& instruction);
  void send(RankId rank, const Send& send);
  Link& link(RankId from, RankId to, Payload payload);

  Mesh mesh_;
  const Costs& costs_;
  bool endless_;
  EventSink sink_;
  int64_t depth_;
  std::vector<Rank> ranks_;
  std::vector<Link> links_;  // [receiver][payload]: a rank gets each from one other
  Simulation total_;
};

// The most bytes that one rank needs, as simulate() counts them: from its own list alone.
double peak_bytes(const PlanSpec& spec, const Costs& costs, RankId rank,
                  std::optional<int64_t> sweeps = {});

// Makes the plan and plays it sweep by sweep, at most `sweeps` of them.
Simulation simulate(const PlanSpec& spec, const Costs& costs, std::optional<int64_t> sweeps = {},
                    EventSink sink = {});

}  // namespace longtake
