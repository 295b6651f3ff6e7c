// One transformer block on random weights: self-attention, cross-attention to 512 rows of text and
// feed-forward, each alone and all of it. The text's keys are made once per prompt, so not here.
#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"
#include "launch/bench/random_weights.h"
#include "runtime/model/transformer.h"

namespace longtake {

namespace {

TransformerConfig one_layer(const BenchSetup& setup) {
  TransformerConfig c;
  c.heads = setup.heads;
  c.head_dim = setup.head_dim;
  c.in_channels = c.out_channels = 16;
  c.text_dim = 64;  // of the text embedder, which is not measured
  c.ffn_dim = setup.ffn;
  c.layers = 1;
  return c;
}

struct Part {
  const char* name;
  UnitRange units;
};
constexpr Part kParts[] = {{"self", {0, 1}}, {"cross", {1, 2}}, {"ffn", {2, 3}}, {"block", {0, 3}}};

double flops_of(const UnitRange& units, const TransformerConfig& c, int64_t tokens) {
  const auto n = static_cast<double>(tokens), d = static_cast<double>(c.dim()),
             f = static_cast<double>(c.ffn_dim), text = static_cast<double>(c.text_length);
  double total = 0;
  for (int64_t unit = units.begin; unit < units.end; ++unit)
    total += unit == 0   ? 8 * n * d * d + 4 * n * n * d
             : unit == 1 ? 4 * n * d * d + 4 * n * text * d
                         : 4 * n * d * f;
  return total;
}

}  // namespace

void bench_block(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  const TransformerConfig config = one_layer(setup);
  LT_CHECK(config.dim() == setup.dim, "bench block: {} heads of {} channels are not {}",
           setup.heads, setup.head_dim, setup.dim);
  const TemporaryFolder folder;
  const auto file = folder.path() / "diffusion_pytorch_model.safetensors";
  write_random_weights(file, transformer_tensors(config), DType::bf16, 1);
  const Weights weights(file, WeightsOf::transformer);
  BenchReport report("block", setup);
  for (const int64_t tokens : setup.tokens) {
    for (const Part& part : kParts) {
      Transformer model(weights, config, part.units, setup.dtype, stream);
      const Modulation modulation = model.modulate(std::array{500.0}, {}, stream);
      const TextContext text = model.text_context(
          normal_tensor(DType::f32, {config.text_length, config.text_dim}, 2), stream);
      OwnedTensor x = device.normal(DType::f32, {tokens, config.dim()}, 3);
      const Visit visit{.grid = {1, 1, tokens}, .modulation = &modulation, .text = &text};
      const double flops = flops_of(part.units, config, tokens);
      BenchRow row = device.measure(flops, [&] { model.forward(x, visit, stream); });
      row.labels = {{"part", std::string(part.name)},
                    {"tokens", tokens},
                    {"dim", config.dim()},
                    {"heads", config.heads},
                    {"ffn", config.ffn_dim},
                    {"dtype", std::string(name(setup.dtype))},
                    {"GFLOP", static_cast<int64_t>(flops * 1e-9 + 0.5)}};
      report.add(std::move(row));
    }
  }
  report.close();
}

}  // namespace longtake
