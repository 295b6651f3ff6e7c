// Whole runs: prompt, guided denoising (one or two experts), frames.
#include <doctest/doctest.h>

#include <cstring>

#include "runtime/exec/denoiser.h"
#include "runtime/model/prompt_encoder.h"
#include "runtime/model/vae_decoder.h"
#include "runtime/sampler/solver.h"
#include "runtime/stream/frame.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

struct Limits {
  double latents;
  int levels;
};

// Array [steps, ...] -> step k.
ConstTensor step_of(const OwnedTensor& all, int64_t k) {
  const ConstTensor row = ConstTensor(all).rows(k, k + 1);
  Shape shape;
  for (int i = 1; i < row.rank(); ++i) shape.append(row.dim(i));
  return row.reshape(shape);
}

Conditions encode(GoldenCase& golden, const ModelFolder& folder, bool guided) {
  const PromptEncoder encoder(folder, DType::f32, test_stream());
  Conditions out;
  out.positive = encoder.encode(golden.json().at("prompt"), test_stream());
  golden.compare("prompt_embedding", out.positive, golden.expected("prompt_embedding"), 1e-5);
  if (!guided) return out;
  out.negative = encoder.encode(golden.json().at("negative_prompt"), test_stream());
  golden.compare("negative_embedding", out.negative, golden.expected("negative_embedding"), 1e-5);
  return out;
}

OwnedTensor denoise(GoldenCase& golden, const ModelFolder& folder, const Conditions& conditions,
                    const Guidance& guidance, double limit) {
  const UniPc solver(golden.json().at("num_inference_steps"), golden.json().at("flow_shift"));
  Denoiser denoiser(folder, guidance, conditions, DType::f32);
  SolverState state;
  state.latent = golden.expected("initial_latent");
  const OwnedTensor latents = golden.expected("latents"),
                    conditional = golden.expected("velocity_cond");
  const OwnedTensor expert = golden.expected("expert");
  OwnedTensor velocity(DType::f32, state.latent.shape());
  for (int64_t k = 0; k < solver.schedule().steps(); ++k) {
    const std::string step = ", step " + std::to_string(k);
    const double t = solver.schedule().timesteps[static_cast<size_t>(k)];
    denoiser.velocity(state.latent, t, velocity, test_stream());
    CHECK(denoiser.expert_of(t) == expert.as<int32_t>()[k]);
    golden.compare("velocity_cond" + step, denoiser.branch(0), step_of(conditional, k), limit);
    if (guidance.scale > 1)
      golden.compare("velocity_uncond" + step, denoiser.branch(1),
                     step_of(golden.expected("velocity_uncond"), k), limit);
    solver.advance(state, velocity, test_stream());
    golden.compare("latents" + step, state.latent, step_of(latents, k), limit);
  }
  return std::move(state.latent);
}

void compare_frames(GoldenCase& golden, const ModelFolder& folder, const OwnedTensor& latent) {
  const Weights weights(folder.vae, WeightsOf::vae);
  VaeDecoder decoder(weights, *folder.vae_config, test_stream());
  const OwnedTensor expected = golden.expected("frames_uint8");
  const int levels = golden.json().at("tolerance").at("frames_uint8_levels");
  const int64_t frame_bytes = expected.numel() / expected.dim(0);
  int64_t produced = 0;
  int worst = 0;
  std::vector<uint8_t> rgb(static_cast<size_t>(frame_bytes));
  for (int64_t t = 0; t < latent.dim(1); ++t)
    decoder.decode(
        latent_frame(latent, t),
        [&](ConstTensor frame) {
          REQUIRE(produced < expected.dim(0));
          to_rgb(frame, rgb.data());
          for (int64_t i = 0; i < frame_bytes; ++i)
            worst =
                std::max(worst, std::abs(int{rgb[static_cast<size_t>(i)]} -
                                         int{expected.as<uint8_t>()[produced * frame_bytes + i]}));
          ++produced;
        },
        test_stream());
  CHECK(produced == expected.dim(0));
  CHECK(worst <= levels);
}

}  // namespace

void run_pipeline_case(GoldenCase& golden) {
  const ModelFolder folder = read_model_folder(golden.model());
  Guidance guidance;
  guidance.scale = golden.json().at("guidance_scale");
  const auto& second = golden.json().at("guidance_scale_2");
  if (!second.is_null()) guidance.low_noise = second.get<double>();
  const Conditions conditions = encode(golden, folder, guidance.scale > 1);
  const OwnedTensor latent = denoise(golden, folder, conditions, guidance,
                                     golden.json().at("tolerance").at("latents").at("max_abs"));
  compare_frames(golden, folder, latent);
}

}  // namespace longtake::testing
