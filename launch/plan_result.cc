#include "launch/plan_result.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace longtake {

namespace {

constexpr size_t kShownRanks = 16;
constexpr size_t kShownLinks = 12;

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  for (; bytes >= 999.5 && unit < 4; ++unit) bytes /= 1000;
  return fmt::format("{:.{}f} {}", bytes,
                     unit == 0 || bytes >= 99.95 ? 0
                     : bytes >= 9.995            ? 1
                                                 : 2,
                     units[unit]);
}

std::string time_text(const PlanResult& r, double time) {
  if (r.slots) return fmt::format("{:.0f} slots", time);
  if (time < 120) return fmt::format("{:.{}f} s", time, time < 10 ? 3 : 1);
  if (time < 2 * 3600) return fmt::format("{:.1f} min", time / 60);
  return fmt::format("{:.1f} h", time / 3600);
}

std::string count(int64_t n, const std::string& one, const std::string& many) {
  return fmt::format("{} {}", n, n == 1 ? one : many);
}

std::string head_text(const PlanResult& r) {
  const RunConfig& c = r.config;
  const BlockLayout& layout = r.plan.layout;
  const std::string length = r.endless() ? fmt::format("endless, {} sweeps simulated", r.sweeps)
                                         : fmt::format("{} frames in {}", c.video.frames,
                                                       count(*layout.blocks(), "block", "blocks"));
  const Mesh& mesh = r.plan.mesh;
  std::string out = fmt::format(
      "{}{} x {}, {} of {} latent frames, overlap {}, {}, stagger {}, {} steps\n"
      "hardware {}\n"
      "{}: {} x {}",
      r.model.empty() ? "" : r.model + ", ", c.video.width, c.video.height, length,
      layout.block_frames, layout.context_frames, name(r.plan.rule), r.plan.stagger, r.plan.steps,
      r.hardware, count(mesh.ranks(), "rank", "ranks"), count(mesh.stages, "stage", "stages"),
      count(mesh.branches, "branch", "branches"));
  if (r.workers > 0) out += ", " + count(r.workers, "attention worker", "attention workers");
  if (r.videos() > 1) out += fmt::format("; {} such pipelines, a video each", r.videos());
  const int64_t unused = r.ranks - r.videos() * mesh.ranks();
  if (unused > 0) out += fmt::format("; {} of {} ranks not used", unused, r.ranks);
  return out + "\n";
}

std::string summary_text(const PlanResult& r) {
  const Simulation& s = r.simulation;
  std::string out =
      fmt::format("{} {}", r.endless() ? "simulated" : "time", time_text(r, s.makespan_s));
  if (s.first_block_s)
    out += fmt::format(", first frames after {}", time_text(r, *s.first_block_s));
  out += fmt::format(", idle {:.2f} %{}", 100 * r.idle_share(),
                     r.steady_idle_share ? " once all blocks are in flight" : "");
  if (!r.slots) {
    out += fmt::format(", {:.4g} frames/s", r.frames_per_second());
    if (r.videos() > 1)
      out += fmt::format(" for each of {} videos, {:.4g} in all", r.videos(),
                         r.frames_per_second() * static_cast<double>(r.videos()));
  }
  return out + fmt::format("\n{} instructions made, checked and simulated in {:.2f} s\n",
                           r.check.instructions, r.planning_s);
}

std::string rank_row(const PlanResult& r, size_t i) {
  const SimulatedRank& rank = r.simulation.ranks[i];
  const PlanRank& k = r.per_rank[i];
  const RankId id{static_cast<int64_t>(i)};
  const std::string layers =
      k.end_layer > 0 ? fmt::format("{:.2f} - {:.2f}", k.first_layer, k.end_layer) : "-";
  std::string out = fmt::format("{:>5}{:>6}{:>7}  {:<16}", i, r.plan.mesh.stage(id).value,
                                r.plan.mesh.branch(id).value, layers);
  if (!r.slots) {
    for (const double bytes :
         {k.weight_bytes, rank.features_bytes,
          rank.peak_bytes - k.weight_bytes - rank.features_bytes, rank.peak_bytes})
      out += fmt::format("{:>10}", bytes_text(bytes));
    out += r.memory_bytes > 0 ? fmt::format("{:>5.0f} %", 100 * rank.peak_bytes / r.memory_bytes)
                              : fmt::format("{:>7}", "");
  }
  const double all = std::max(r.simulation.makespan_s, 1e-300);
  return out + fmt::format("{:>12}{:>7.1f} %\n", time_text(r, rank.busy_s),
                           100 * (1 - rank.busy_s / all));
}

std::string ranks_text(const PlanResult& r) {
  std::string out = fmt::format("{:>5}{:>6}{:>7}  {:<16}", "rank", "stage", "branch", "layers");
  if (!r.slots)
    out += fmt::format("{:>10}{:>10}{:>10}{:>10}{:>7}", "weights", "features", "buffers", "peak",
                       "memory");
  out += fmt::format("{:>12}{:>9}\n", "busy", "idle");
  const size_t ranks = r.per_rank.size();
  for (size_t i = 0; i < ranks; ++i) {
    if (ranks > kShownRanks && i == kShownRanks - 4) {
      out += fmt::format("{:>5}   {} more\n", "...", ranks - kShownRanks);
      i = ranks - 4;
    }
    out += rank_row(r, i);
  }
  return out;
}

std::string links_text(const PlanResult& r) {
  const auto& links = r.simulation.links;
  if (r.slots || links.empty()) return "";
  std::string out = fmt::format("{:>14}  {:<10}{:>10}{:>12}{:>8}\n", "link", "carries", "messages",
                                "bytes", "busy");
  double bytes = 0;
  for (const SimulatedLink& link : links) bytes += link.bytes;
  for (size_t i = 0; i < links.size(); ++i) {
    if (links.size() > kShownLinks && i == kShownLinks - 2) {
      out += fmt::format("{:>14}  {} more\n", "...", links.size() - kShownLinks);
      i = links.size() - 2;
    }
    const SimulatedLink& link = links[i];
    out += fmt::format("{:>5} to {:>5}  {:<10}{:>10}{:>12}{:>6.2f} %\n", link.from.value,
                       link.to.value, name(link.payload), link.messages, bytes_text(link.bytes),
                       100 * link.busy_s / r.simulation.makespan_s);
  }
  return out + fmt::format("all links {}\n", bytes_text(bytes));
}

// Why so many, where it was asked, and what each has to do.
std::string workers_text(const PlanResult& r) {
  if (r.config.parallel.workers == 0) return "";
  std::string out = fmt::format(
      "\n{}: {}\n", count(r.workers, "attention worker", "attention workers"), r.reason);
  if (r.workers == 0) return out;
  if (r.alone_s > 0)
    out += fmt::format("without workers, all devices as stages: {}\n", time_text(r, r.alone_s));
  out += fmt::format("{:>8}  {:<24}{:>10}{:>12}{:>12}{:>9}{:>9}\n", "worker", "kind", "tasks",
                     "bytes", "busy", "idle", "hidden");
  const double all = std::max(r.simulation.makespan_s, 1e-300);
  for (size_t i = 0; i < r.per_worker.size(); ++i) {
    if (r.per_worker.size() > kShownRanks && i == kShownRanks - 4) {
      out += fmt::format("{:>8}  {} more\n", "...", r.per_worker.size() - kShownRanks);
      i = r.per_worker.size() - 4;
    }
    const PlanWorker& w = r.per_worker[i];
    out += fmt::format("{:>8}  {:<24}{:>10}{:>12}{:>12}{:>7.1f} %{:>7.1f} %\n", i, w.kind, w.tasks,
                       bytes_text(w.bytes), time_text(r, w.busy_s), 100 * (1 - w.busy_s / all),
                       100 * w.hidden_share());
  }
  return out;
}

}  // namespace

double PlanResult::frames_per_second() const {
  if (slots || simulation.makespan_s <= 0) return 0;
  if (!endless()) return static_cast<double>(frames) / simulation.makespan_s;
  return steady_block_s ? block_frames / *steady_block_s : 0;
}

std::string to_text(const PlanResult& r) {
  std::string out = head_text(r) + summary_text(r) + "\n" + ranks_text(r) + workers_text(r);
  const std::string links = links_text(r);
  if (!links.empty()) out += "\n" + links;
  for (const std::string& line : r.advice) out += "\n" + line + "\n";
  return out;
}

std::string to_json(const PlanResult& r) {
  using Json = nlohmann::ordered_json;
  const Simulation& s = r.simulation;
  Json per_rank = Json::array(), links = Json::array();
  double busy = 0;
  for (size_t i = 0; i < r.per_rank.size(); ++i) {
    const SimulatedRank& k = s.ranks[i];
    const RankId id{static_cast<int64_t>(i)};
    busy += k.busy_s;
    per_rank.push_back({{"rank", i},
                        {"stage", r.plan.mesh.stage(id).value},
                        {"branch", r.plan.mesh.branch(id).value},
                        {"busy", k.busy_s},
                        {"idle", s.idle_s(id)},
                        {"peak_bytes", k.peak_bytes},
                        {"weight_bytes", r.per_rank[i].weight_bytes},
                        {"feature_bytes", k.features_bytes},
                        {"channel_bytes", k.channel_bytes},
                        {"layers", {r.per_rank[i].first_layer, r.per_rank[i].end_layer}}});
  }
  for (const SimulatedLink& link : s.links)
    links.push_back({{"from", link.from.value},
                     {"to", link.to.value},
                     {"carries", name(link.payload)},
                     {"messages", link.messages},
                     {"bytes", link.bytes},
                     {"busy", link.busy_s}});
  Json workers = Json::array();
  for (const PlanWorker& w : r.per_worker)
    workers.push_back({{"kind", w.kind},
                       {"tasks", w.tasks},
                       {"bytes", w.bytes},
                       {"busy", w.busy_s},
                       {"idle_share", 1 - w.busy_s / s.makespan_s},
                       {"hidden_share", w.hidden_share()}});
  const auto ranks = static_cast<double>(std::max<size_t>(1, s.ranks.size()));
  Json json{{"unit", r.slots ? "slots" : "s"},
            {"makespan", s.makespan_s},
            {"first_block", s.first_block_s ? Json(*s.first_block_s) : Json()},
            {"idle", s.makespan_s - busy / ranks},
            {"idle_share", r.idle_share()},
            {"stages", r.plan.mesh.stages},
            {"branches", r.plan.mesh.branches},
            {"blocks", r.endless() ? Json() : Json(*r.plan.layout.blocks())},
            {"blocks_done", s.blocks},
            {"ranks", r.ranks},
            {"videos", r.videos()},
            {"workers", r.workers},
            {"reason", r.reason},
            {"makespan_without_workers", r.alone_s > 0 ? Json(r.alone_s) : Json()},
            {"frames", r.frames},
            {"frames_per_second", r.slots ? Json() : Json(r.frames_per_second())},
            {"sweeps", r.sweeps},
            {"instructions", r.check.instructions},
            {"planning_s", r.planning_s},
            {"model", r.model},
            {"hardware", r.hardware},
            {"memory_bytes", r.memory_bytes},
            {"advice", r.advice},
            {"per_rank", per_rank},
            {"per_worker", workers},
            {"links", links}};
  return json.dump(1) + "\n";
}

}  // namespace longtake
