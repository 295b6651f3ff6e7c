#include "launch/plan_workers.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "parallel/attention/worker_costs.h"

namespace longtake {

namespace {

// The slowest stage's visits, and those in which the pipeline fills and empties.
double estimated_seconds(const DeviceSplit& split, PlanSpec plan, const ModelShape& model,
                         const HardwareProfile& hardware) {
  plan.mesh = split.mesh;
  const VisitShape visit = full_visit(plan, model);
  const WorkerCosts costs(plan, model, hardware, share_out_units(plan, model, hardware),
                          worker_pool(hardware, split.workers));
  double slowest = 0;
  for (int64_t rank = 0; rank < plan.mesh.ranks(); ++rank)
    slowest = std::max(slowest, costs.balanced({rank}, visit).seconds);
  const auto blocks = plan.layout.blocks();
  if (!blocks) return slowest * static_cast<double>(plan.steps);
  const int64_t ramp = (plan.mesh.stages - 1) * (plan.mesh.stages - 1);
  return slowest * static_cast<double>(*blocks * plan.steps + ramp);
}

bool fits(const DeviceSplit& split, PlanSpec plan, const ModelShape& model,
          const HardwareProfile& hardware) {
  plan.mesh = split.mesh;
  return hardware.memory_bytes == 0 ||
         largest_peak_bytes(plan, model, hardware) <= hardware.memory_bytes;
}

SplitQuestion question_of(const RunConfig& config, int64_t devices, const ModelShape& model,
                          const HardwareProfile& hardware) {
  SplitQuestion out;
  out.devices = out.stage_devices = devices;
  for (const WorkerKind& kind : hardware.workers) out.stage_devices -= kind.count;
  if (out.stage_devices < 1)
    fail(ExitCode::usage, "--ranks: {} of {} devices can only be workers: expected one for a stage",
         devices - out.stage_devices, devices);
  out.most_stages = 3 * model.layers;
  out.stages = config.parallel.stages, out.branches = config.parallel.branches;
  out.workers = config.parallel.workers;
  return out;
}

}  // namespace

double split_seconds(const DeviceSplit& split, PlanSpec plan, const ModelShape& model,
                     const HardwareProfile& hardware) {
  constexpr int64_t kMostVisits = 100'000;
  plan.mesh = split.mesh;
  const auto blocks = plan.layout.blocks();
  if (!blocks || *blocks * plan.steps * plan.mesh.ranks() > kMostVisits)
    return estimated_seconds(split, plan, model, hardware);
  const auto stages = split_layers(plan, model, hardware);
  const auto pool = worker_pool(hardware, split.workers);
  return simulate(plan, WorkerCosts(plan, model, hardware, stages, pool)).makespan_s;
}

WorkerPlan plan_workers(const RunConfig& config, int64_t devices, const PlanSpec& plan,
                        const ModelShape& model, const HardwareProfile& hardware) {
  const SplitQuestion question = question_of(config, devices, model, hardware);
  const DeviceSplit alone{choose_mesh(config, question.stage_devices, plan, model, hardware), 0};
  const auto seconds = [&](const DeviceSplit& split) -> std::optional<double> {
    if (split.workers > 0 && !fits(split, plan, model, hardware)) return std::nullopt;
    return split_seconds(split, plan, model, hardware);
  };
  if (config.parallel.workers == 0) return {alone, 0, 0, 0, "none were asked for"};
  const auto splits = device_splits(plan, question);
  if (!config.parallel.workers)
    return choose_split(
        splits, alone,
        [&](const DeviceSplit& s) { return estimated_seconds(s, plan, model, hardware); }, seconds);

  if (splits.empty())
    fail(ExitCode::usage,
         "parallel.workers: {} of {} devices as workers leave {} for stages, expected {}{}",
         *config.parallel.workers, devices, devices - *config.parallel.workers,
         question.stages || question.branches ? "as many as parallel.stages x branches" : "1 to ",
         question.stages || question.branches ? "" : fmt::format("{}", question.stage_devices));
  WorkerPlan out{splits.front(), 0, split_seconds(alone, plan, model, hardware), 0, ""};
  for (const DeviceSplit& split : splits) {
    const double taken = split_seconds(split, plan, model, hardware);
    if (out.tried++ == 0 || taken < out.seconds) out.split = split, out.seconds = taken;
  }
  out.reason = "asked for";
  return out;
}

}  // namespace longtake
