#include "parallel/plan/simulate.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// What an instruction adds to the bytes alive on its rank. Messages wait in channel buffers, which
// are counted apart; a received latent goes to the store.
struct AliveBytes {
  const Mesh& mesh;
  const Costs& costs;
  RankId rank;

  double operator()(const Admit& i) const {
    const double solver = mesh.last(rank) ? costs.solver_bytes(rank, i.block) : 0;
    return costs.latent_bytes(rank, {i.block, {0}}) + solver;
  }
  double operator()(const Recall& i) const { return costs.latent_bytes(rank, i.latent); }
  double operator()(const Recv& i) const {
    return i.payload == Payload::latent ? costs.latent_bytes(rank, {i.block, i.step}) : 0;
  }
  double operator()(const Forward& i) const {
    double out = 0;
    if (i.publish_head) out += costs.features_bytes(rank, {Edge::head, i.block, i.step});
    if (i.publish_tail) out += costs.features_bytes(rank, {Edge::tail, i.block, i.step});
    return out;
  }
  double operator()(const SolverStep& i) const {
    return costs.latent_bytes(rank, {i.block, {i.step.value + 1}});
  }
  double operator()(const ReleaseFeatures& i) const {
    return -costs.features_bytes(rank, i.features);
  }
  double operator()(const ReleaseLatent& i) const { return -costs.latent_bytes(rank, i.latent); }
  double operator()(const ReleaseSolver& i) const { return -costs.solver_bytes(rank, i.block); }
  double operator()(const Embed&) const { return 0; }
  double operator()(const Send&) const { return 0; }
  double operator()(const Head&) const { return 0; }
  double operator()(const Emit&) const { return 0; }
};

bool touches_features(const Instruction& i) {
  return std::holds_alternative<Forward>(i) || std::holds_alternative<ReleaseFeatures>(i);
}

}  // namespace

double Simulation::idle_share() const {
  double busy = 0;
  for (const SimulatedRank& rank : ranks) busy += rank.busy_s;
  const double all = makespan_s * static_cast<double>(ranks.size());
  return all > 0 ? 1 - busy / all : 0;
}

Simulator::Simulator(const Mesh& mesh, const Costs& costs, bool endless, EventSink sink,
                     int64_t depth)
    : mesh_(mesh), costs_(costs), endless_(endless), sink_(std::move(sink)), depth_(depth) {
  ranks_.resize(static_cast<size_t>(mesh.ranks()));
  links_.resize(3 * ranks_.size());
  for (Link& link : links_) link.load.from = {-1};
}

std::vector<Instruction>& Simulator::open_backlog(RankId rank) {
  LT_CHECK(rank.value >= 0 && rank.value < mesh_.ranks(), "no rank {}", rank.value);
  Rank& r = ranks_[static_cast<size_t>(rank.value)];
  r.list.erase(r.list.begin(), r.list.begin() + static_cast<std::ptrdiff_t>(r.next));
  r.next = 0;
  return r.list;
}

void Simulator::add(RankId rank, std::span<const Instruction> list) {
  std::vector<Instruction>& backlog = open_backlog(rank);
  backlog.insert(backlog.end(), list.begin(), list.end());
}

void Simulator::add_sweep(const PlanMaker& maker) {
  for (int64_t rank = 0; rank < mesh_.ranks(); ++rank) maker.append({rank}, open_backlog({rank}));
}

void Simulator::play() {
  for (bool moved = true; moved;) {
    moved = false;
    for (int64_t rank = 0; rank < mesh_.ranks(); ++rank)
      while (step({rank})) moved = true;
  }
}

Simulator::Link& Simulator::link(RankId from, RankId to, Payload payload) {
  LT_CHECK(to.value >= 0 && to.value < mesh_.ranks(), "no rank {}", to.value);
  Link& out = links_[static_cast<size_t>(3 * to.value + static_cast<int64_t>(payload))];
  if (out.load.from != from) {
    LT_CHECK(out.load.from.value < 0, "rank {} gets {} from ranks {} and {}", to.value,
             name(payload), out.load.from.value, from.value);
    out.load = {from, to, payload};
  }
  return out;
}

// False if the rank has nothing to do or a message was not sent yet.
bool Simulator::step(RankId id) {
  Rank& rank = ranks_[static_cast<size_t>(id.value)];
  if (rank.next == rank.list.size()) return false;
  const Instruction& instruction = rank.list[rank.next];
  double begin = rank.out.end_s;
  if (const auto* recv = std::get_if<Recv>(&instruction)) {
    Link& from = link(recv->from, id, recv->payload);
    if (from.messages.empty()) return false;
    const Message message = from.messages.front();
    LT_CHECK(message.block == recv->block && message.step == recv->step,
             "rank {}: `{}` meets a message b{} {}", id.value, to_text(instruction),
             message.block.value, message.step.value);
    from.messages.pop_front();
    begin = std::max(begin, message.arrival_s);
    wait(rank, begin);
  }
  const double taken = costs_.seconds(id, instruction);
  rank.out.busy_s += taken;
  rank.out.end_s = begin + taken;
  leave_behind(rank, costs_.background_seconds(id, instruction));
  account(id, instruction);
  if (sink_) sink_({id, rank.index, begin, rank.out.end_s, instruction});
  ++rank.index;
  ++rank.next;
  return true;
}

void Simulator::wait(Rank& rank, double until) {
  const double spare = until - rank.out.end_s, done = std::min(spare, rank.out.backlog_s);
  rank.out.wait_s += spare;
  rank.out.backlog_s -= done;
  rank.out.background_s += done;
  rank.out.busy_s += done;
}

// What is too much is done at once.
void Simulator::leave_behind(Rank& rank, double seconds) {
  rank.out.backlog_s += seconds;
  if (seconds == 0 || !endless_) return;
  const double now = std::max(0.0, rank.out.backlog_s - background_queue * seconds);
  rank.out.backlog_s -= now;
  rank.out.background_s += now;
  rank.out.busy_s += now;
  rank.out.end_s += now;
}

void Simulator::account(RankId id, const Instruction& instruction) {
  Rank& rank = ranks_[static_cast<size_t>(id.value)];
  const double alive = std::visit(AliveBytes{mesh_, costs_, id}, instruction);
  rank.bytes += alive;
  rank.out.peak_bytes = std::max(rank.out.peak_bytes, rank.bytes);
  if (touches_features(instruction)) rank.features_bytes += alive;
  rank.out.features_bytes = std::max(rank.out.features_bytes, rank.features_bytes);
  total_.instructions_s = std::max(total_.instructions_s, rank.out.end_s);
  if (const auto* s = std::get_if<Send>(&instruction)) send(id, *s);
  if (std::holds_alternative<Emit>(instruction)) {
    if (!total_.first_block_s) total_.first_block_s = rank.out.end_s;
    total_.last_block_s = rank.out.end_s;
    ++total_.blocks;
  }
}

void Simulator::send(RankId id, const Send& send) {
  const double now = ranks_[static_cast<size_t>(id.value)].out.end_s;
  Link& to = link(id, send.to, send.payload);
  const double taken = costs_.link_seconds(id, send);
  const double bytes = costs_.message_bytes(id, send);
  to.free_s = std::max(to.free_s, now) + taken;
  to.messages.push_back({send.block, send.step, to.free_s});
  to.largest_bytes = std::max(to.largest_bytes, bytes);
  ++to.load.messages;
  to.load.bytes += bytes;
  to.load.busy_s += taken;
}

Simulation Simulator::result() const {
  Simulation out = total_;
  out.makespan_s = out.instructions_s;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    SimulatedRank rank = ranks_[i].out;
    const double alone = std::min(rank.backlog_s, out.instructions_s - rank.end_s);
    const double left = (rank.backlog_s - alone) / costs_.spare_speed();
    if (left > 0) out.makespan_s = std::max(out.makespan_s, out.instructions_s + left);
    rank.busy_s += rank.backlog_s;
    rank.background_s += rank.backlog_s;
    rank.backlog_s = 0;
    rank.peak_bytes += costs_.fixed_bytes({static_cast<int64_t>(i)});
    out.ranks.push_back(rank);
  }
  for (const Link& link : links_) {
    if (link.load.messages == 0) continue;
    out.links.push_back(link.load);
    const double buffers = static_cast<double>(depth_) * link.largest_bytes;
    for (const RankId end : {link.load.from, link.load.to}) {
      SimulatedRank& rank = out.ranks[static_cast<size_t>(end.value)];
      rank.channel_bytes += buffers;
      rank.peak_bytes += buffers;
    }
  }
  const auto order = [](const SimulatedLink& l) { return std::tuple(l.from, l.to, l.payload); };
  std::sort(out.links.begin(), out.links.end(),
            [&](const auto& a, const auto& b) { return order(a) < order(b); });
  return out;
}

double peak_bytes(const PlanSpec& spec, const Costs& costs, RankId rank,
                  std::optional<int64_t> sweeps) {
  const AliveBytes alive{spec.mesh, costs, rank};
  double now = 0, peak = 0;
  std::map<std::tuple<RankId, Payload, bool>, double> largest;
  std::vector<Instruction> list;
  for (PlanMaker maker(spec); !maker.done() && (!sweeps || maker.sweep() < *sweeps); maker.next()) {
    list.clear();
    maker.append(rank, list);
    for (const Instruction& i : list) {
      peak = std::max(peak, now += std::visit(alive, i));
      const auto message = [&](RankId from, RankId peer, const Send& sent, bool sends) {
        double& most = largest[{peer, sent.payload, sends}];
        most = std::max(most, costs.message_bytes(from, sent));
      };
      if (const auto* s = std::get_if<Send>(&i)) message(rank, s->to, *s, true);
      if (const auto* r = std::get_if<Recv>(&i))
        message(r->from, r->from, {r->payload, r->block, r->step, rank}, false);
    }
  }
  for (const auto& [end, bytes] : largest) peak += static_cast<double>(channel_depth) * bytes;
  return peak + costs.fixed_bytes(rank);
}

Simulation simulate(const PlanSpec& spec, const Costs& costs, std::optional<int64_t> sweeps,
                    EventSink sink) {
  PlanMaker maker(spec);
  Simulator simulator(spec.mesh, costs, !spec.layout.total_frames, std::move(sink));
  for (; !maker.done() && (!sweeps || maker.sweep() < *sweeps); maker.next()) {
    simulator.add_sweep(maker);
    simulator.play();
  }
  return simulator.result();
}

}  // namespace longtake
