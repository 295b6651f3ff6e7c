// Operations, parameters and seconds of the sub-layers (wan.md 2.2.6). A multiply-add is two
// operations.
#pragma once

#include <vector>

#include "parallel/cost/hardware_profile.h"
#include "parallel/cost/model_shape.h"

namespace longtake {

enum class SubLayer { self_attention, cross_attention, feed_forward };
// Of a unit as partition.h numbers them.
inline SubLayer sub_layer(int64_t unit) {
  return static_cast<SubLayer>(unit % 3);
}

struct Flops {
  double linear = 0, attention = 0;
  double total() const { return linear + attention; }
};
Flops flops(SubLayer part, const ModelShape& model, const VisitShape& visit);
// All layers of one branch; embedding and head left out.
Flops forward_flops(const ModelShape& model, const VisitShape& visit);

// Weights and biases; a layer's modulation table belongs to its self-attention.
int64_t parameters(SubLayer part, const ModelShape& model);
// Patch, time and text embedders, and the head.
int64_t end_parameters(const ModelShape& model);

// Matrix products and attention take the longer of their operations and of reading their weights
// or keys; norms, rotations and sums move bytes; every operator has its overhead.
double seconds(SubLayer part, const ModelShape& model, const VisitShape& visit,
               const HardwareProfile& hardware);

// Of that, softmax(QK^T)V of a self-attention: what an attention worker can do.
double core_attention_seconds(const ModelShape& model, const VisitShape& visit,
                              const HardwareProfile& hardware);

// Latents to tokens, and tokens to velocity.
double embed_seconds(const ModelShape& model, int64_t tokens, const HardwareProfile& hardware);
double head_seconds(const ModelShape& model, int64_t tokens, const HardwareProfile& hardware);

// Of every unit, for partition_units.
std::vector<double> unit_seconds(const ModelShape& model, const VisitShape& visit,
                                 const HardwareProfile& hardware);

}  // namespace longtake
