#include "parallel/plan/held_state.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// Plays the instructions that make something or give it back. What was made before the played
// sweeps is given back within them or is not alive any more.
class Player {
 public:
  explicit Player(bool last) : last_(last) {}

  void play(const Instruction& instruction) {
    std::visit([this](const auto& op) { issue(op); }, instruction);
  }
  void receive(const Latent& latent) { held.latents.push_back(latent); }

  HeldState held;

 private:
  template <class T>
  static void drop(std::vector<T>& from, const T& what) {
    std::erase(from, what);
  }

  void issue(const Admit& i) {
    held.latents.push_back({i.block, {0}});
    if (last_) held.solvers.push_back(i.block);
  }
  void issue(const Recall& i) { held.latents.push_back(i.latent); }
  void issue(const Recv& i) {
    if (i.payload == Payload::latent) receive({i.block, i.step});
  }
  void issue(const Forward& i) {
    if (i.publish_head) held.features.push_back({Edge::head, i.block, i.step});
    if (i.publish_tail) held.features.push_back({Edge::tail, i.block, i.step});
  }
  void issue(const SolverStep& i) { held.latents.push_back({i.block, {i.step.value + 1}}); }
  void issue(const ReleaseFeatures& i) { drop(held.features, i.features); }
  void issue(const ReleaseLatent& i) { drop(held.latents, i.latent); }
  void issue(const ReleaseSolver& i) { drop(held.solvers, i.block); }
  void issue(const Embed&) {}
  void issue(const Send&) {}
  void issue(const Head&) {}
  void issue(const Emit&) {}

  bool last_;
};

std::vector<Instruction> sweep_of(const PlanSpec& spec, RankId rank, int64_t begin, int64_t sweep) {
  PlanMaker maker(spec, begin);
  while (maker.sweep() < sweep) maker.next();
  std::vector<Instruction> out;
  maker.append(rank, out);
  return out;
}

}  // namespace

// Those that the first stage receives in this sweep when the run goes on, but not when it begins
// here.
std::vector<Latent> on_their_way(const PlanSpec& spec, RankId rank, int64_t sweep) {
  const auto received = [&](int64_t begin) {
    std::vector<Latent> out;
    for (const Instruction& i : sweep_of(spec, rank, begin, sweep))
      if (const auto* recv = std::get_if<Recv>(&i); recv && recv->payload == Payload::latent)
        out.push_back({recv->block, recv->step});
    return out;
  };
  std::vector<Latent> out = received(sweep - 1);
  for (const Latent& later : received(sweep)) std::erase(out, later);
  return out;
}

HeldState held_before(const PlanSpec& spec, RankId rank, int64_t sweep) {
  LT_CHECK(sweep >= 0, "sweep {}", sweep);
  if (sweep == 0) return {};
  // A solver lives for all steps of its block, the rest for less.
  const int64_t begin = std::max<int64_t>(0, sweep - spec.steps - spec.effective_stagger() - 1);
  PlanMaker maker(spec, begin);
  Player player(spec.mesh.last(rank));
  std::vector<Instruction> list;
  for (; maker.sweep() < sweep && !maker.done(); maker.next()) {
    list.clear();
    maker.append(rank, list);
    for (const Instruction& i : list) player.play(i);
  }
  for (const Latent& latent : on_their_way(spec, rank, sweep)) player.receive(latent);
  return std::move(player.held);
}

int64_t finished_before(const PlanSpec& spec, int64_t sweep) {
  const int64_t past =
      sweep - spec.steps;  // block b is finished after sweep b r + steps - 1, b from first_block
  if (past < 0) return spec.layout.first_block;
  const int64_t finished = spec.layout.first_block + past / spec.effective_stagger() + 1;
  const auto blocks = spec.layout.blocks();
  return blocks ? std::min(finished, *blocks) : finished;
}

}  // namespace longtake
