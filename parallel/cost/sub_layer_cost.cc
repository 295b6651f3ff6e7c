#include "parallel/cost/sub_layer_cost.h"

#include <algorithm>

namespace longtake {

namespace {

// As doubles: products of these pass 2^63.
struct Sizes {
  double n, k, d, f, t, s;
  Sizes(const ModelShape& model, const VisitShape& visit)
      : n(static_cast<double>(visit.tokens)),
        k(static_cast<double>(visit.keys)),
        d(static_cast<double>(model.dim)),
        f(static_cast<double>(model.ffn)),
        t(static_cast<double>(model.text_rows)),
        s(static_cast<double>(model.dtype_bytes)) {}
};

// What a sub-layer moves and launches beside its products. A modulated norm reads the f32 stream
// and writes the compute type, 4 + s bytes a channel; the gated sum at the end moves 8 + s; a norm
// (with rotation) of queries or of keys 2 s.
struct Traffic {
  double weights, keys, elementwise;
  int operators;
};

Traffic traffic(SubLayer part, const Sizes& z) {
  const double frame = (12 + 2 * z.s) * z.n * z.d;
  switch (part) {
    case SubLayer::self_attention:
      return {4 * z.d * z.d * z.s, 2 * z.k * z.d * z.s, frame + 4 * z.s * z.n * z.d, 9};
    case SubLayer::cross_attention:  // keys of the text are made once per prompt
      return {2 * z.d * z.d * z.s, 2 * z.t * z.d * z.s, frame + 2 * z.s * z.n * z.d, 6};
    default:
      return {2 * z.d * z.f * z.s, 0, frame, 4};
  }
}

double patch_seconds(const ModelShape& model, int64_t tokens, int64_t channels,
                     const HardwareProfile& hardware) {
  const double n = static_cast<double>(tokens), d = static_cast<double>(model.dim),
               c = static_cast<double>(channels * model.patch());
  return std::max(2 * n * d * c / hardware.linear_flops,
                  4 * n * (d + c) / hardware.memory_bandwidth) +
         hardware.operator_s;
}

}  // namespace

Flops flops(SubLayer part, const ModelShape& model, const VisitShape& visit) {
  const Sizes z(model, visit);
  switch (part) {
    case SubLayer::self_attention:
      return {8 * z.n * z.d * z.d, 4 * z.n * z.k * z.d};
    case SubLayer::cross_attention:
      return {4 * z.n * z.d * z.d, 4 * z.n * z.t * z.d};
    default:
      return {4 * z.n * z.d * z.f, 0};
  }
}

Flops forward_flops(const ModelShape& model, const VisitShape& visit) {
  Flops out;
  for (int64_t unit = 0; unit < 3 * model.layers; ++unit) {
    const Flops one = flops(sub_layer(unit), model, visit);
    out.linear += one.linear;
    out.attention += one.attention;
  }
  return out;
}

int64_t parameters(SubLayer part, const ModelShape& model) {
  const int64_t d = model.dim, f = model.ffn;
  switch (part) {
    case SubLayer::self_attention:  // q, k, v, out; two norms; the table of 6
      return 4 * (d * d + d) + 2 * d + 6 * d;
    case SubLayer::cross_attention:  // the same; the norm before it has weight and bias
      return 4 * (d * d + d) + 2 * d + 2 * d;
    default:
      return 2 * d * f + f + d;
  }
}

int64_t end_parameters(const ModelShape& model) {
  const int64_t d = model.dim;
  const auto linear = [](int64_t in, int64_t out) { return in * out + out; };
  return linear(model.in_channels * model.patch(), d) + linear(model.freq_dim, d) + linear(d, d) +
         linear(d, 6 * d) + linear(model.text_dim, d) + linear(d, d) +
         linear(d, model.out_channels * model.patch()) + 2 * d;
}

double seconds(SubLayer part, const ModelShape& model, const VisitShape& visit,
               const HardwareProfile& hardware) {
  const Flops work = flops(part, model, visit);
  const Traffic moved = traffic(part, Sizes(model, visit));
  const double bandwidth = hardware.memory_bandwidth;
  return std::max(work.linear / hardware.linear_flops, moved.weights / bandwidth) +
         std::max(work.attention / hardware.attention_flops, moved.keys / bandwidth) +
         moved.elementwise / bandwidth + moved.operators * hardware.operator_s;
}

double core_attention_seconds(const ModelShape& model, const VisitShape& visit,
                              const HardwareProfile& hardware) {
  const double keys = traffic(SubLayer::self_attention, Sizes(model, visit)).keys;
  return std::max(
      flops(SubLayer::self_attention, model, visit).attention / hardware.attention_flops,
      keys / hardware.memory_bandwidth);
}

double embed_seconds(const ModelShape& model, int64_t tokens, const HardwareProfile& hardware) {
  return patch_seconds(model, tokens, model.in_channels, hardware);
}

double head_seconds(const ModelShape& model, int64_t tokens, const HardwareProfile& hardware) {
  return patch_seconds(model, tokens, model.out_channels, hardware);
}

std::vector<double> unit_seconds(const ModelShape& model, const VisitShape& visit,
                                 const HardwareProfile& hardware) {
  std::vector<double> out;
  for (int64_t unit = 0; unit < 3 * model.layers; ++unit)
    out.push_back(seconds(sub_layer(unit), model, visit, hardware));
  return out;
}

}  // namespace longtake
