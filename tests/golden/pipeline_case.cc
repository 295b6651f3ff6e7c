// Whole runs: prompt, guided denoising (one or two experts), frames.
#include <doctest/doctest.h>

#include <cstring>

#include "runtime/model/prompt_encoder.h"
#include "runtime/model/stage_model.h"
#include "runtime/model/vae_decoder.h"
#include "runtime/sampler/solver.h"
#include "runtime/stream/frame.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

// Array [steps, ...] -> step k.
ConstTensor step_of(const OwnedTensor& all, int64_t k) {
  const ConstTensor row = ConstTensor(all).rows(k, k + 1);
  Shape shape;
  for (int i = 1; i < row.rank(); ++i) shape.append(row.dim(i));
  return row.reshape(shape);
}

PromptSet encode(GoldenCase& golden, const ModelFolder& folder, bool guided) {
  const PromptEncoder encoder(folder, DType::f32, test_stream());
  PromptSet out;
  out.positive.push_back(encoder.encode(golden.json().at("prompt"), test_stream()));
  golden.compare("prompt_embedding", out.positive[0], golden.expected("prompt_embedding"), 1e-5);
  if (!guided) return out;
  out.negative = encoder.encode(golden.json().at("negative_prompt"), test_stream());
  golden.compare("negative_embedding", out.negative, golden.expected("negative_embedding"), 1e-5);
  return out;
}

// One branch of the guided velocity, as a single stage computes it.
OwnedTensor branch_velocity(StageModel& model, int64_t step, StageModel::Branch branch,
                            const OwnedTensor& latent) {
  Visit visit;
  visit.grid = model.grid_of(latent.shape());
  const Device device = test_stream().device();
  OwnedTensor x(DType::f32, {visit.grid.tokens(), model.config().dim()}, device),
      velocity(DType::f32, latent.shape(), device);
  model.embed(step, latent, x, test_stream());
  model.forward(step, 0, {branch, visit, x}, test_stream());
  model.head(step, x, visit.grid, velocity, test_stream());
  return velocity;
}

OwnedTensor denoise(GoldenCase& golden, const ModelFolder& folder, const PromptSet& prompts,
                    const Guidance& guidance, double limit) {
  const UniPc solver(golden.json().at("num_inference_steps"), golden.json().at("flow_shift"));
  StageModel model(folder, guidance, prompts,
                   {Transformer::all_units(folder.transformer_config), DType::f32,
                    solver.schedule().timesteps, true},
                   test_stream());
  SolverState state;
  state.latent = on_device(golden.expected("initial_latent"));
  const OwnedTensor latents = golden.expected("latents"),
                    conditional = golden.expected("velocity_cond");
  const OwnedTensor expert = golden.expected("expert");
  for (int64_t k = 0; k < solver.schedule().steps(); ++k) {
    const std::string step = ", step " + std::to_string(k);
    CHECK(model.expert_of(k) == expert.as<int32_t>()[k]);
    OwnedTensor velocity = branch_velocity(model, k, StageModel::conditional, state.latent);
    golden.compare("velocity_cond" + step, velocity, step_of(conditional, k), limit);
    if (guidance.guided()) {
      const OwnedTensor other = branch_velocity(model, k, StageModel::unconditional, state.latent);
      const OwnedTensor expected = golden.expected("velocity_uncond");
      golden.compare("velocity_uncond" + step, other, step_of(expected, k), limit);
      solver.advance(state, Velocity{velocity, other, model.scale_of(k)}, test_stream());
    } else {
      solver.advance(state, velocity, test_stream());
    }
    golden.compare("latents" + step, state.latent, step_of(latents, k), limit);
  }
  return to_host(state.latent, test_stream());
}

void compare_frames(GoldenCase& golden, const ModelFolder& folder, const OwnedTensor& latent) {
  const Weights weights(folder.vae, WeightsOf::vae);
  VaeDecoder decoder(weights, *folder.vae_config, DType::f32, test_stream());
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
  const PromptSet prompts = encode(golden, folder, guidance.guided());
  const OwnedTensor latent = denoise(golden, folder, prompts, guidance,
                                     golden.json().at("tolerance").at("latents").at("max_abs"));
  compare_frames(golden, folder, latent);
}

}  // namespace longtake::testing
