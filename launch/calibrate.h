// The rates of this machine, measured at the shapes of a model: medians of repeated runs of the
// operators that a visit is made of, on reduced rows and scaled by their operations.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/base/stream.h"
#include "launch/hardware_file.h"
#include "launch/run_shape.h"

namespace longtake {

struct RateProbe {
  int64_t dim = 1536, heads = 12, ffn = 8960;
  int64_t tokens = 3120, keys = 6240;  // of a visit
  std::vector<DType> dtypes = {DType::f32};
  double seconds = 1;  // to spend, about
  // A VAE of few operations is measured itself: the profile's convolution rate is then what makes
  // decode_flops come out right. Otherwise 96 channels are.
  std::filesystem::path vae;
  int64_t latent_height = 0, latent_width = 0;
  double decode_flops = 0;  // of ModelShape
  double memory_bytes = 0;  // of a rank
};

// Of the visits of `plan`.
RateProbe probe_of(const PlanSpec& plan, const ModelShape& model);
HardwareFile measure_rates(const RateProbe& probe, StreamRef stream);

// This machine as one rank with all the threads it may use (or `threads`).
HardwareFile measure_machine(const RateProbe& probe, int threads);

// A profile in YAML: of the shapes of a Wan 1.3B where the configuration names no model.
std::string calibrate(const RunConfig& config, int threads);

}  // namespace longtake
