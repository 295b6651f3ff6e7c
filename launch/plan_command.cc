// `longtake plan`: the schedule of a run, its time and its bytes. Needs no weights, GPU or MPI.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>

#include "kernels/base/error.h"
#include "launch/calibrate.h"
#include "launch/commands.h"
#include "launch/hardware_file.h"
#include "launch/log.h"
#include "launch/machine.h"
#include "launch/plan_result.h"
#include "launch/plan_workers.h"
#include "parallel/attention/worker_costs.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kGridRanks = 32;
constexpr int64_t kMostVisits = 2'000'000;  // kept for the grid

class Planning {
 public:
  Planning(const RunConfig& config, const PlanOptions& options)
      : config_(config), options_(options) {
    result_.config = config;
    result_.ranks = options.ranks.value_or(1 + config.parallel.workers.value_or(0));
    result_.slots = options.hardware == "uniform";
  }

  PlanResult run() {
    find_sizes();
    if (options_.endless) shape_.plan.layout.total_frames.reset();
    find_hardware();
    choose();
    const Clock::time_point start = Clock::now();
    result_.sweeps = sweeps();
    make_all();
    result_.planning_s = std::chrono::duration<double>(Clock::now() - start).count();
    give_advice();
    return std::move(result_);
  }

 private:
  // A schedule in slots can do without a model.
  void find_sizes() {
    if (!result_.slots || !config_.model.empty() || !config_.model_sizes.empty()) {
      sizes_ = find_model_sizes(config_);
      result_.model = sizes_->name;
    }
    ModelSizes any;
    any.name = "the model";
    any.transformer.heads = any.transformer.head_dim = any.transformer.layers = 1;
    shape_ = run_shape(config_, sizes_ ? *sizes_ : any);
    if (sizes_) model_ = model_shape(config_, *sizes_, shape_);
  }

  void find_hardware() {
    const DType compute = choose_precision(config_.precision, config_.device);
    if (result_.slots) {
      result_.hardware = "uniform: every visit of a stage takes one slot, links are free";
      return;
    }
    HardwareFile file;
    if (options_.hardware.empty())
      file = measure_here(compute);
    else
      file = read_hardware(options_.hardware);
    hardware_ = file.profile(compute);
    result_.hardware = fmt::format("{}, {}", file.name, name(compute));
    result_.memory_bytes = hardware_.memory_bytes;
  }

  HardwareFile measure_here(DType compute) const {
    RateProbe probe = probe_of(shape_.plan, model_);
    probe.dtypes = {compute};
    if (std::filesystem::is_directory(config_.model))
      probe.vae = read_model_folder(config_.model).vae;
    return measure_machine(probe, options_.threads);
  }

  void choose() {
    PlanSpec& plan = shape_.plan;
    if (result_.slots) {
      choose_for_slots();
    } else {
      const WorkerPlan best = plan_workers(config_, result_.ranks, plan, model_, hardware_);
      plan.mesh = best.split.mesh;
      result_.workers = best.split.workers;
      result_.alone_s = best.alone_s;
      result_.reason = best.reason;
      result_.ranks -= result_.workers;
    }
    check_spec(plan);
    if (plan.mesh.ranks() > result_.ranks)
      fail(ExitCode::usage, "parallel: {} stages x {} branches need {} ranks, --ranks is {}",
           plan.mesh.stages, plan.mesh.branches, plan.mesh.ranks(), result_.ranks);
    result_.plan = plan;
  }

  void choose_for_slots() {
    const auto workers = config_.parallel.workers;
    if (workers.value_or(0) > 0)
      fail(ExitCode::usage, "parallel.workers: a slot has no attention to share, found {}",
           *workers);
    result_.reason = workers ? "none were asked for" : "a slot has no attention to share";
    HardwareProfile any;  // memory does not count
    ModelShape deep = model_;
    if (!sizes_) deep.layers = int64_t{1} << 40;
    RunConfig asked = config_;
    if (!asked.parallel.stages && !asked.parallel.branches) asked.parallel.branches = 1;
    shape_.plan.mesh = choose_mesh(asked, result_.ranks, shape_.plan, deep, any);
  }

  // Of an endless video: until all blocks are in flight, and for sixteen more.
  int64_t sweeps() const {
    const PlanMaker maker(shape_.plan);
    const int64_t all =
        maker.sweeps().value_or(shape_.plan.steps + 16 * shape_.plan.effective_stagger());
    return options_.sweeps ? maker.sweeps() ? std::min(*options_.sweeps, all) : *options_.sweeps
                           : all;
  }

  void make_all() {
    const PlanSpec& plan = shape_.plan;
    const auto ranks = static_cast<size_t>(plan.mesh.ranks());
    result_.per_rank.resize(ranks);
    if (result_.slots) {
      if (sizes_) set_layers(equal_shares(plan.mesh.stages));
      play(UniformCosts());
    } else {
      const auto stages = split_layers(plan, model_, hardware_);
      const WorkerCosts costs(plan, model_, hardware_, stages,
                              worker_pool(hardware_, result_.workers));
      for (const WorkerKind& worker : costs.pool()) result_.per_worker.push_back({worker.name});
      set_layers(stages);
      for (size_t i = 0; i < ranks; ++i)
        result_.per_rank[i].weight_bytes = costs.weight_bytes({static_cast<int64_t>(i)});
      play(costs, &costs);
    }
    const int64_t factor = sizes_ && sizes_->vae ? sizes_->vae->temporal_factor : 4;
    result_.block_frames = static_cast<double>(plan.layout.block_frames * factor);
    result_.frames = config_.video.frames;
    if (result_.endless())
      result_.frames = result_.simulation.blocks * plan.layout.block_frames * factor;
  }

  // Checked and simulated side by side, each from its own copy of the plan.
  void play(const Costs& costs, const WorkerCosts* shared = nullptr) {
    const PlanSpec& plan = shape_.plan;
    auto checked =
        std::async(std::launch::async, [this, &plan] { return check_made(plan, result_.sweeps); });
    PlanMaker maker(plan);
    Simulator simulator(plan.mesh, costs, result_.endless(), sink(shared));
    std::optional<Simulation> filled;  // when all blocks are in flight
    for (; !maker.done() && maker.sweep() < result_.sweeps; maker.next()) {
      if (result_.endless() && maker.sweep() == filled_after()) filled = simulator.result();
      simulator.add_sweep(maker);
      simulator.play();
    }
    result_.check = checked.get();
    result_.simulation = simulator.result();
    if (filled && result_.simulation.blocks > filled->blocks) find_steady_idle(*filled);
  }

  // All blocks are in flight, and some have left.
  int64_t filled_after() const { return shape_.plan.steps + 4 * shape_.plan.effective_stagger(); }

  // Busy time between two moments of the same point in a sweep, over that time.
  void find_steady_idle(const Simulation& filled) {
    const Simulation& end = result_.simulation;
    double busy = 0;
    for (size_t i = 0; i < end.ranks.size(); ++i)
      busy += end.ranks[i].busy_s - filled.ranks[i].busy_s;
    const double blocks = static_cast<double>(end.blocks - filled.blocks);
    const double sweeps = static_cast<double>(result_.sweeps - filled_after());
    const double seconds = (*end.last_block_s - *filled.last_block_s) / blocks;
    const double of_a_block = busy / sweeps * static_cast<double>(shape_.plan.effective_stagger());
    result_.steady_idle_share =
        std::max(0.0, 1 - of_a_block / (seconds * static_cast<double>(end.ranks.size())));
    result_.steady_block_s = seconds;
  }

  EventSink sink(const WorkerCosts* shared) {
    if (!options_.grid && result_.workers == 0) return {};
    return [this, shared](const SimulatedEvent& e) {
      const auto* forward = std::get_if<Forward>(&e.instruction);
      if (!forward) return;
      if (shared) count_workers(*shared, e.rank, *forward);
      if (!options_.grid || e.rank.value >= kGridRanks) return;
      if (static_cast<int64_t>(result_.visits.size()) < kMostVisits)
        result_.visits.push_back({e.rank.value, forward->block.value, e.begin_s, e.end_s});
    };
  }

  // A worker that is a rank's for a part of its time is busy with its tasks for that part of
  // theirs.
  void count_workers(const WorkerCosts& costs, RankId rank, const Forward& forward) {
    for (const auto& [share, part] : costs.balanced(rank, costs.visit(forward)).workers) {
      PlanWorker& worker = result_.per_worker[static_cast<size_t>(share.worker)];
      worker.tasks += share.tasks;
      worker.bytes += share.bytes;
      worker.busy_s += part * share.seconds;
      worker.hidden_s += part * share.seconds * share.hidden_share;
    }
  }

  std::vector<StageUnits> equal_shares(int64_t stages) const {
    const std::vector<double> units(static_cast<size_t>(3 * model_.layers), 1.0);
    return partition_units(units, {}, stages, 1);
  }

  void set_layers(const std::vector<StageUnits>& stages) {
    for (size_t i = 0; i < result_.per_rank.size(); ++i) {
      const UnitRange units = stages[i % stages.size()].hull();
      result_.per_rank[i].first_layer = static_cast<double>(units.begin) / 3;
      result_.per_rank[i].end_layer = static_cast<double>(units.end) / 3;
    }
  }

  void give_advice() {
    const PlanSpec& plan = shape_.plan;
    const int64_t depth = useful_depth(plan.steps, plan.stagger, plan.layout.blocks());
    if (result_.videos() > 1 || result_.ranks > plan.mesh.ranks())
      result_.advice.push_back(fmt::format(
          "One video keeps at most {} stages busy (min of {} steps / stagger {}{}{}) in {} "
          "pipeline{}: the other ranks are best used for other videos.",
          std::min(depth, sizes_ ? 3 * model_.layers : depth), plan.steps, plan.stagger,
          plan.layout.blocks() ? fmt::format(", {} blocks", *plan.layout.blocks()) : "",
          sizes_ ? fmt::format(", {} sub-layers", 3 * model_.layers) : "", plan.mesh.branches,
          plan.mesh.branches == 1 ? "" : "s"));
    if (result_.slots) return;
    advise_on_memory();
    advise_on_balance();
  }

  // Seconds of the slowest and of the mean stage for a visit between two others.
  std::pair<double, double> stage_seconds(const PlanSpec& plan) const {
    const CostModel costs(plan, model_, hardware_, share_out_units(plan, model_, hardware_));
    Forward visit;
    if (plan.layout.blocks() != 1) visit.block = {1};
    double slowest = 0, sum = 0;
    for (int64_t stage = 0; stage < plan.mesh.stages; ++stage) {
      const double seconds = costs.seconds({stage}, visit);
      slowest = std::max(slowest, seconds);
      sum += seconds;
    }
    return {slowest, sum / static_cast<double>(plan.mesh.stages)};
  }

  // Layers cannot be cut finely enough for any number of stages.
  void advise_on_balance() {
    const auto [slowest, mean] = stage_seconds(shape_.plan);
    if (slowest < 1.15 * mean) return;
    PlanSpec fewer = shape_.plan;
    for (fewer.mesh.stages = 1; fewer.mesh.stages < shape_.plan.mesh.stages; ++fewer.mesh.stages)
      if (stage_seconds(fewer).first <= 1.02 * slowest) break;
    if (fewer.mesh.stages == shape_.plan.mesh.stages) return;
    result_.advice.push_back(fmt::format(
        "The slowest stage takes {:.0f} % longer than the mean, since {} layers do not divide well "
        "among {} stages: {} stages ({} ranks) would be about as fast.",
        100 * (slowest / mean - 1), model_.layers, shape_.plan.mesh.stages, fewer.mesh.stages,
        fewer.mesh.ranks()));
  }

  void advise_on_memory() {
    double peak = 0;
    for (const SimulatedRank& rank : result_.simulation.ranks)
      peak = std::max(peak, rank.peak_bytes);
    if (peak <= hardware_.memory_bytes) return;
    PlanSpec deeper = shape_.plan;
    const int64_t depth = std::min(
        useful_depth(deeper.steps, deeper.stagger, deeper.layout.blocks()), 3 * model_.layers);
    std::string way = "fewer or smaller blocks, or bf16, would help";
    for (int64_t stages = deeper.mesh.stages + 1; stages <= depth; ++stages) {
      deeper.mesh.stages = stages;
      if (largest_peak_bytes(deeper, model_, hardware_) > hardware_.memory_bytes) continue;
      way = fmt::format("{} stages would ({} ranks)", stages, deeper.mesh.ranks());
      break;
    }
    result_.advice.push_back(
        fmt::format("This does not fit: a rank needs {:.1f} GB, the hardware has {:.1f} GB; {}.",
                    peak / 1e9, hardware_.memory_bytes / 1e9, way));
    advise_on_offload();
  }

  // With features in host memory a visit's own and the next one's are left.
  void advise_on_offload() {
    if (config_.device == DeviceChoice::cpu || config_.offload == OffloadChoice::off) return;
    constexpr double kSlabs = 6;
    const CostModel costs(shape_.plan, model_, hardware_,
                          split_layers(shape_.plan, model_, hardware_));
    double left = 0, moved = 0;
    for (size_t i = 0; i < result_.simulation.ranks.size(); ++i) {
      const SimulatedRank& rank = result_.simulation.ranks[i];
      const double kept = kSlabs * costs.features_bytes({static_cast<int64_t>(i)}, {});
      const double away = std::max(0.0, rank.features_bytes - kept);
      left = std::max(left, rank.peak_bytes - away);
      moved = std::max(moved, rank.features_bytes);
    }
    if (left > hardware_.memory_bytes) return;
    result_.advice.push_back(fmt::format(
        "On GPUs --offload makes it fit: {:.1f} GB of a rank's features of neighbours go to host "
        "memory, {:.1f} GB are left.",
        moved / 1e9, left / 1e9));
  }

  RunConfig config_;
  PlanOptions options_;
  std::optional<ModelSizes> sizes_;
  RunShape shape_;
  ModelShape model_;
  HardwareProfile hardware_;
  PlanResult result_;
};

// One instruction per line, of one rank or of all.
void print_instructions(const PlanResult& result, std::optional<int64_t> only) {
  const Mesh& mesh = result.plan.mesh;
  if (only && *only >= mesh.ranks())
    fail(ExitCode::usage, "--rank: expected 0 to {}, found {}", mesh.ranks() - 1, *only);
  for (int64_t rank = only.value_or(0); rank < only.value_or(mesh.ranks() - 1) + 1; ++rank) {
    if (!only) fmt::print("# rank {}\n", rank);
    PlanMaker maker(result.plan);
    std::vector<Instruction> list;
    for (; !maker.done() && maker.sweep() < result.sweeps; maker.next()) {
      list.clear();
      maker.append({rank}, list);
      for (const Instruction& i : list) fmt::print("{}\n", to_text(i));
    }
  }
}

int run_calibrate(const RunConfig& config, const PlanOptions& options) {
  const std::string yaml = calibrate(config, options.threads);
  if (options.output.empty())
    std::fputs(yaml.c_str(), stdout);
  else
    replace_file(options.output, yaml);
  return 0;
}

}  // namespace

int run_plan(const RunConfig& config, const PlanOptions& options) {
  if (options.calibrate) return run_calibrate(config, options);
  const PlanResult result = Planning(config, options).run();
  if (options.text) {
    print_instructions(result, options.rank);
  } else if (options.json) {
    std::fputs(to_json(result).c_str(), stdout);
  } else {
    std::fputs(to_text(result).c_str(), stdout);
    if (options.grid) fmt::print("\n{}", to_grid(result));
  }
  return 0;
}

}  // namespace longtake
