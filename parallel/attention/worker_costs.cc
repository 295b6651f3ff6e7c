#include "parallel/attention/worker_costs.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// Seconds of attention a second, in those of a rank, transfers of `bytes` for each included.
double effective_speed(const WorkerKind& worker, double bytes) {
  if (worker.speed == 0 || worker.link_bandwidth == 0) return 0;
  const double compute = 1 / worker.speed, move = bytes / worker.link_bandwidth;
  return 1 / (worker.overlap ? std::max(compute, move) : compute + move);
}

double call_bytes(const BranchWork& call) {
  double out = 0;
  for (const HeadWork& head : call.heads)
    out += head.query_bytes + head.key_bytes + head.answer_bytes;
  return out;
}

void add_share(WorkerCosts::Visit& visit, const WorkerShare& share, int64_t times) {
  for (WorkerCosts::Served& served : visit.workers) {
    WorkerShare& sum = served.share;
    if (sum.worker != share.worker) continue;
    const double seconds = static_cast<double>(times) * share.seconds;
    const double hidden = sum.hidden_share * sum.seconds + share.hidden_share * seconds;
    sum.tasks += times * share.tasks;
    sum.seconds += seconds;
    sum.bytes += static_cast<double>(times) * share.bytes;
    if (sum.seconds > 0) sum.hidden_share = hidden / sum.seconds;
  }
}

}  // namespace

std::vector<WorkerKind> worker_pool(const HardwareProfile& hardware, int64_t count) {
  std::vector<WorkerKind> out;
  const auto add = [&](WorkerKind kind, int64_t most) {
    kind.count = 1;
    for (; most > 0 && static_cast<int64_t>(out.size()) < count; --most) out.push_back(kind);
  };
  for (const WorkerKind& kind : hardware.workers) add(kind, kind.count);
  add({"like the ranks", 1, 1, hardware.link_bandwidth, hardware.link_latency_s, hardware.overlap},
      count);
  return out;
}

BranchWork attention_call(const ModelShape& model, const VisitShape& visit,
                          const HardwareProfile& hardware, double own_s) {
  const double heads = static_cast<double>(model.heads);
  const double row = static_cast<double>(model.dim * model.dtype_bytes) / heads;
  HeadWork head;
  head.seconds = core_attention_seconds(model, visit, hardware) / heads;
  head.query_bytes = head.answer_bytes = row * static_cast<double>(visit.tokens);
  head.key_bytes = 2 * row * static_cast<double>(visit.keys);
  return {own_s, visit.tokens, std::vector<HeadWork>(static_cast<size_t>(model.heads), head)};
}

WorkerCosts::WorkerCosts(const PlanSpec& plan, const ModelShape& model,
                         const HardwareProfile& hardware, const std::vector<StageUnits>& stages,
                         std::vector<WorkerKind> pool)
    : CostModel(plan, model, hardware, stages),
      plan_(plan),
      model_(model),
      hardware_(hardware),
      pool_(std::move(pool)),
      pieces_(pieces()) {}

// Of the pool's time for a rank of each stage, so that all stages end together as far as their own
// work allows: the smallest T for which the shares that stages of own work O and attention A need,
// O + A = T (1 + share x pool), add up to 1.
std::vector<double> WorkerCosts::shares(double pool_speed) const {
  const VisitShape visit = full_visit(plan_, model_);
  const double call = core_attention_seconds(model_, visit, hardware_);
  std::vector<double> all, out(static_cast<size_t>(plan_.mesh.stages), 0.0);
  double most = 0, slowest_own = 0;
  for (int64_t stage = 0; stage < plan_.mesh.stages; ++stage) {
    const Calls calls = attention_calls({stage});
    all.push_back(visit_seconds({stage}, visit));
    most = std::max(most, all.back());
    const double own = all.back() - call * static_cast<double>(calls.first + calls.second);
    slowest_own = std::max(slowest_own, own);
  }
  const auto needed = [&](double seconds) {
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = std::max(0.0, (all[i] / seconds - 1) / (planned_end * pool_speed));
    return std::accumulate(out.begin(), out.end(), 0.0) * static_cast<double>(plan_.mesh.branches);
  };
  double low = std::max(slowest_own, 1e-12 * most), high = most;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (needed(middle) > 1 ? low : high) = middle;
  }
  const double sum = needed(high);
  for (double& share : out) share = sum > 0 ? share / sum : 0;
  return out;
}

std::vector<std::vector<WorkerCosts::Piece>> WorkerCosts::pieces() const {
  const VisitShape visit = full_visit(plan_, model_);
  const double call = core_attention_seconds(model_, visit, hardware_);
  const double bytes = call_bytes(attention_call(model_, visit, hardware_, 0));
  std::vector<double> end{0};  // of each worker, in a row
  for (const WorkerKind& worker : pool_)
    end.push_back(end.back() + effective_speed(worker, call > 0 ? bytes / call : 0));
  std::vector<std::vector<Piece>> out(static_cast<size_t>(plan_.mesh.ranks()));
  if (end.back() == 0) return out;
  const std::vector<double> share = shares(end.back());
  double from = 0;
  for (int64_t rank = 0; rank < plan_.mesh.ranks(); ++rank) {
    const auto stage = static_cast<size_t>(plan_.mesh.stage({rank}).value);
    const double to = from + share[stage] * end.back();
    for (size_t w = 0; w < pool_.size(); ++w) {
      const double common = std::min(to, end[w + 1]) - std::max(from, end[w]);
      const double part = end[w + 1] > end[w] ? common / (end[w + 1] - end[w]) : 0;
      constexpr double kLeast = 1e-6;  // rounding
      if (part > kLeast)
        out[static_cast<size_t>(rank)].push_back({static_cast<int>(w), std::min(part, 1.0)});
    }
    from = to;
  }
  return out;
}

// A rank's own link serves all its workers.
std::vector<WorkerRate> WorkerCosts::rates(RankId rank) const {
  const std::vector<Piece>& pieces = pieces_[static_cast<size_t>(rank.value)];
  const auto kind = [&](const Piece& p) { return pool_[static_cast<size_t>(p.worker)]; };
  double links = 0;
  for (const Piece& piece : pieces) links += piece.part * kind(piece).link_bandwidth;
  const double link = links > hardware_.link_bandwidth ? hardware_.link_bandwidth / links : 1;
  std::vector<WorkerRate> out;
  for (const Piece& piece : pieces) {
    const WorkerKind& worker = kind(piece);
    out.push_back({piece.worker,
                   piece.part * worker.speed,
                   piece.part * link * worker.link_bandwidth,
                   2 * worker.link_latency_s,
                   worker.overlap,
                   {}});
  }
  return out;
}

double WorkerCosts::seconds(RankId rank, const Instruction& instruction) const {
  const auto* forward = std::get_if<Forward>(&instruction);
  return forward ? balanced(rank, visit(*forward)).seconds : CostModel::seconds(rank, instruction);
}

const WorkerCosts::Visit& WorkerCosts::balanced(RankId rank, const VisitShape& visit) const {
  const std::tuple key(rank.value, visit.tokens, visit.keys);
  const auto known = visits_.find(key);
  if (known != visits_.end()) return known->second;
  return visits_.emplace(key, balance_visit(rank, visit)).first->second;
}

// A layer of both branches is a pair of calls; what only one branch has here is a call of its own.
// The work between the calls is spread evenly over them.
WorkerCosts::Visit WorkerCosts::balance_visit(RankId rank, const VisitShape& visit) const {
  Visit out;
  out.seconds = visit_seconds(rank, visit);
  for (const Piece& piece : pieces_[static_cast<size_t>(rank.value)]) {
    out.workers.push_back({{}, piece.part});
    out.workers.back().share.worker = piece.worker;
  }
  const Calls calls = attention_calls(rank);
  const auto count = static_cast<double>(calls.first + calls.second);
  if (count == 0 || out.workers.empty()) return out;
  const double call = core_attention_seconds(model_, visit, hardware_);
  const double own = std::max(0.0, out.seconds / count - call);
  const std::vector<BranchWork> pair(2, attention_call(model_, visit, hardware_, own));
  const std::vector<WorkerRate> workers = rates(rank);
  const int64_t pairs = std::min(calls.first, calls.second);
  const auto add = [&](std::span<const BranchWork> branches, int64_t times) {
    if (times == 0) return;
    const Balance balance = longtake::balance(branches, workers);
    out.seconds -= static_cast<double>(times) * (balance.alone_s - balance.seconds);
    for (const WorkerShare& share : balance.shares) add_share(out, share, times);
  };
  add(pair, pairs);
  add(std::span(pair).first(1), calls.first + calls.second - 2 * pairs);
  return out;
}

}  // namespace longtake
