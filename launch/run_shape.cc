#include "launch/run_shape.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "launch/machine.h"
#include "parallel/cost/cost_model.h"

namespace longtake {

namespace {

void check_size(const RunConfig& config, const ModelSizes& sizes, const VaeConfig& vae) {
  const int64_t multiple = vae.spatial_factor * sizes.transformer.patch[1];
  if (config.video.width % multiple != 0 || config.video.height % multiple != 0)
    fail(ExitCode::usage, "video.width and video.height: {} needs multiples of {}, found {} x {}",
         sizes.name, multiple, config.video.width, config.video.height);
}

// Simulating is worth while up to here: a few hundredths of a second.
constexpr double kMostVisits = 1e5;

double visits(const PlanSpec& plan) {
  const auto blocks = plan.layout.new_blocks();
  return blocks ? static_cast<double>(*blocks * plan.steps * plan.mesh.ranks()) : 1e300;
}

double simulated_seconds(const PlanSpec& plan, const ModelShape& model,
                         const HardwareProfile& hardware, const std::vector<StageUnits>& stages) {
  return simulate(plan, CostModel(plan, model, hardware, stages)).makespan_s;
}

}  // namespace

Guidance guidance_of(const RunConfig& config) {
  return {config.sampler.guidance, config.sampler.guidance_2, config.sampler.boundary_ratio};
}

RunShape run_shape(const RunConfig& config, const ModelSizes& sizes) {
  const VaeConfig vae = sizes.vae.value_or(VaeConfig{});
  check_size(config, sizes, vae);
  RunShape out;
  out.channels = sizes.transformer.in_channels;
  out.frames = (config.video.frames - 1) / vae.temporal_factor + 1;
  out.height = config.video.height / vae.spatial_factor;
  out.width = config.video.width / vae.spatial_factor;
  out.plan.layout = {config.context.block, config.context.overlap, out.frames};
  out.plan.steps = config.sampler.steps;
  out.plan.stagger = config.context.stagger;
  out.plan.rule = config.context.rule;
  out.plan.guided = guidance_of(config).guided();
  return out;
}

ModelShape model_shape(const RunConfig& config, const ModelSizes& sizes, const RunShape& shape) {
  ModelShape out =
      shape_of(sizes, shape.height, shape.width, choose_precision(config.precision, config.device),
               !config.output.latents_only);
  // A video of one block uses one expert after the other.
  out.experts = shape.plan.layout.new_blocks() == 1 ? 1 : sizes.experts;
  return out;
}

std::optional<int64_t> sweeps_to_peak(const PlanSpec& plan) {
  return plan.steps + 2 * plan.effective_stagger() + 1;
}

double largest_peak_bytes(const PlanSpec& plan, const ModelShape& model,
                          const HardwareProfile& hardware) {
  const CostModel costs(plan, model, hardware, share_out_units(plan, model, hardware));
  double largest = 0;
  for (int64_t stage = 0; stage < plan.mesh.stages; ++stage)
    if (stage == 0 || stage + 1 == plan.mesh.stages || plan.mesh.stages <= 16)
      largest = std::max(largest, peak_bytes(plan, costs, {stage}, sweeps_to_peak(plan)));
  return largest;
}

Mesh choose_mesh(const RunConfig& config, int64_t ranks, const PlanSpec& plan,
                 const ModelShape& model, const HardwareProfile& hardware) {
  const auto& asked = config.parallel;
  if (asked.branches || asked.stages) {
    const int64_t stages = asked.stages.value_or(0);
    Mesh mesh;
    mesh.branches = asked.branches.value_or(std::max<int64_t>(1, stages > 0 ? ranks / stages : 1));
    mesh.stages = stages > 0 ? stages : std::max<int64_t>(1, ranks / mesh.branches);
    return mesh;
  }
  const auto best = [&](bool two) {
    Mesh mesh =
        best_mesh(ranks, plan.steps, plan.stagger, plan.layout.new_blocks(), plan.guided, two);
    mesh.stages = std::min(mesh.stages, 3 * model.layers);
    return mesh;
  };
  PlanSpec one = plan, two = plan;
  one.mesh = best(false), two.mesh = best(true);
  if (two.mesh.branches == 1) return two.mesh;
  if (largest_peak_bytes(two, model, hardware) > hardware.memory_bytes) return one.mesh;
  if (visits(one) > kMostVisits || one.mesh.ranks() != two.mesh.ranks()) return two.mesh;
  const auto seconds = [&](const PlanSpec& p) {
    return simulated_seconds(p, model, hardware, split_layers(p, model, hardware));
  };
  constexpr double kWorthIt = 0.95;
  return seconds(one) < kWorthIt * seconds(two) ? one.mesh : two.mesh;
}

std::vector<StageUnits> split_layers(const PlanSpec& plan, const ModelShape& model,
                                     const HardwareProfile& hardware) {
  std::vector<StageUnits> best = share_out_units(plan, model, hardware);
  const bool nothing_to_choose = plan.mesh.stages == 1 || model.decode_flops_per_frame == 0;
  if (nothing_to_choose || visits(plan) > kMostVisits) return best;
  std::vector<std::vector<StageUnits>> tried{best};
  double least = simulated_seconds(plan, model, hardware, best);
  for (const double share : {0.0, 0.5, 0.75, 1.25, 1.5, 2.0, 3.0}) {
    ModelShape other = model;
    other.decode_flops_per_frame *= share;
    const auto split = share_out_units(plan, other, hardware);
    if (std::find(tried.begin(), tried.end(), split) != tried.end()) continue;
    tried.push_back(split);
    const double seconds = simulated_seconds(plan, model, hardware, split);
    if (seconds >= least) continue;
    least = seconds;
    best = split;
  }
  return best;
}

}  // namespace longtake
