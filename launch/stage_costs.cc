#include "launch/stage_costs.h"

#include <algorithm>

#include "runtime/model/vae_decoder.h"

namespace longtake {

namespace {

// Convolutions with few channels, and the norms between them, stay far from the speed of matrix
// products: about 0.26 of it was measured on the demo VAE (8 channels), 0.8 with 96.
double decode_efficiency(const VaeConfig& vae) {
  const auto channels = static_cast<double>(vae.decoder_base_dim);
  return channels / (channels + 23.0);
}

// Floating-point operations of one visit in one branch, by sub-layer (wan.md 2.2.6).
struct VisitCosts {
  double self, cross, ffn, ends;
};

VisitCosts visit_costs(const StageCostInput& in) {
  const TransformerConfig& t = *in.transformer;
  const BlockLayout& layout = in.plan.layout;
  const double per_frame = static_cast<double>(in.height / t.patch[1] * (in.width / t.patch[2]));
  const bool latent_prefix = in.plan.rule == ContextRule::dualparal;
  const auto context = static_cast<double>(layout.context_frames);
  const double own = static_cast<double>(layout.block_frames) + (latent_prefix ? context : 0);
  const double n = own * per_frame,
               keys = (static_cast<double>(layout.block_frames) + 2 * context) * per_frame;
  const auto d = static_cast<double>(t.dim()), f = static_cast<double>(t.ffn_dim);
  const double text = 64;  // rows that are not padding, about
  const auto patch = static_cast<double>(t.patch[1] * t.patch[2] * t.in_channels);
  return {8 * n * d * d + 4 * n * keys * d, 4 * n * d * d + 4 * n * text * d, 4 * n * d * f,
          2 * n * d * patch};
}

}  // namespace

std::vector<StageUnits> share_out_layers(const StageCostInput& in) {
  const VisitCosts visit = visit_costs(in);
  const int64_t per_rank = in.plan.guided && in.plan.mesh.branches == 1 ? 2 : 1;
  const auto branches = static_cast<double>(per_rank);
  std::vector<double> units;
  for (int64_t layer = 0; layer < in.transformer->layers; ++layer)
    for (const double cost : {visit.self, visit.cross, visit.ffn}) units.push_back(cost);
  EndCosts ends{branches * visit.ends, branches * visit.ends};
  if (in.vae) {
    // A block is decoded once and visited `steps` times.
    const double block = static_cast<double>(in.plan.layout.block_frames) *
                         decode_flops(*in.vae, in.height, in.width);
    ends.last += block / decode_efficiency(*in.vae) / static_cast<double>(in.plan.steps);
  }
  return partition_units(units, ends, in.plan.mesh.stages, per_rank);
}

}  // namespace longtake
