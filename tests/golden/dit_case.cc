// Forwards of the transformer, in f32 and bf16, and its inner activations.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "runtime/model/transformer.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

constexpr double kBf16Limit = 2e-2;  // relative L2 of a forward: the figure

struct Forward {
  Transformer model;
  TextContext text;
  OwnedTensor latent;

  Forward(const GoldenCase& golden, const std::filesystem::path& path, DType compute)
      : model(load(path, compute)), latent(on_device(golden.input("latent"))) {
    text = model.text_context(golden.input("text"), test_stream());
  }

  static Transformer load(const std::filesystem::path& path, DType compute) {
    const TransformerConfig config = read_transformer_config(path);
    const Weights weights(path, WeightsOf::transformer);
    return Transformer(weights, config, Transformer::all_units(config), compute, test_stream());
  }

  OwnedTensor run(const Modulation& modulation) {
    const TokenGrid grid = token_grid(model.config(), latent.shape());
    const Device device = test_stream().device();
    OwnedTensor x(DType::f32, {grid.tokens(), model.config().dim()}, device);
    OwnedTensor velocity(DType::f32,
                         {model.config().out_channels, latent.dim(1), latent.dim(2), latent.dim(3)},
                         device);
    Visit visit;
    visit.grid = grid;
    visit.modulation = &modulation;
    visit.text = &text;
    model.embed(latent, x, test_stream());
    model.forward(x, visit, test_stream());
    model.head(x, modulation, grid, velocity, test_stream());
    return velocity;
  }

  OwnedTensor at(double timestep) {
    return run(model.modulate(std::array<double, 1>{timestep}, {}, test_stream()));
  }

  // One timestep per token: the distinct ones and an index.
  OwnedTensor per_token(const OwnedTensor& timestep) {
    std::vector<double> distinct;
    std::vector<int32_t> row;
    for (int64_t i = 0; i < timestep.numel(); ++i) {
      const double t = timestep.as<float>()[i];
      const auto found = std::find(distinct.begin(), distinct.end(), t);
      row.push_back(static_cast<int32_t>(found - distinct.begin()));
      if (found == distinct.end()) distinct.push_back(t);
    }
    return run(model.modulate(distinct, row, test_stream()));
  }
};

void compare_outputs(GoldenCase& golden, const std::filesystem::path& path) {
  const double limit = golden.json().at("tolerance").at("max_abs");
  Forward exact(golden, path, DType::f32), rounded(golden, path, DType::bf16);
  for (const auto& t : golden.json().at("timesteps")) {
    const std::string array = "output.t" + std::to_string(t.get<int>());
    const OwnedTensor expected = golden.expected(array);
    golden.compare(array, exact.at(t), expected, limit);
    golden.compare_relative(array + " bf16", rounded.at(t), expected, kBf16Limit);
  }
  if (!golden.has_expected("output.per_token")) return;
  const OwnedTensor timestep = golden.input("timestep_per_token"),
                    expected = golden.expected("output.per_token");
  golden.compare("output.per_token", exact.per_token(timestep), expected, limit);
  golden.compare_relative("output.per_token bf16", rounded.per_token(timestep), expected,
                          kBf16Limit);
}

// Tables in double, rounded to f32: one unit in the last place of values up to 1.
void compare_tables(GoldenCase& golden) {
  constexpr double kLimit = 1.2e-7;
  const GoldenFile tables(golden.folder() / "tables.safetensors");
  const OwnedTensor latent = golden.input("latent");
  const TransformerConfig config = read_transformer_config(golden.model());
  const TokenGrid grid{latent.dim(1), latent.dim(2) / 2, latent.dim(3) / 2};
  const RopeTable rope = make_rope_table(config.head_dim, grid, 0);
  golden.compare("rope.cos", rope.cosine, tables.read("rope.cos"), kLimit);
  golden.compare("rope.sin", rope.sine, tables.read("rope.sin"), kLimit);
}

void compare_activations(GoldenCase& golden) {
  if (!golden.json().contains("activations_timestep")) return;
  const GoldenFile expected(golden.folder() / "activations.safetensors");
  const auto limit = [&](const char* array) {
    return golden.json().at("activations_tolerance").at(array).at("max_abs").get<double>();
  };
  Forward forward(golden, golden.model(), DType::f32);
  const double t = golden.json().at("activations_timestep");
  const Modulation modulation = forward.model.modulate(std::array<double, 1>{t}, {}, test_stream());
  golden.compare("temb", modulation.temb.view().reshape(expected.read("temb").shape()),
                 expected.read("temb"), limit("temb"));
  const OwnedTensor time_proj = expected.read("time_proj");
  golden.compare("time_proj", modulation.e.view().reshape(time_proj.shape()), time_proj,
                 limit("time_proj"));
  const TokenGrid grid = token_grid(forward.model.config(), forward.latent.shape());
  OwnedTensor x(DType::f32, {grid.tokens(), forward.model.config().dim()}, test_stream().device());
  forward.model.embed(forward.latent, x, test_stream());
  golden.compare("patch_embed", x, expected.read("patch_embed"), limit("patch_embed"));
}

}  // namespace

void run_dit_case(GoldenCase& golden) {
  compare_outputs(golden, golden.model());
  // The same weights under the original names.
  std::filesystem::path original = golden.model();
  original += "-original";
  if (std::filesystem::exists(original)) compare_outputs(golden, original);
  compare_tables(golden);
  compare_activations(golden);
}

}  // namespace longtake::testing
