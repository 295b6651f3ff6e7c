// Layers of the UMT5 encoder on random weights: --dim is its width, --ffn that of its feed-forward
// layer; umt5-xxl is --dim 4096 --heads 64 --head-dim 64 --ffn 10240 with 24 of them.
#include "launch/bench/bench.h"
#include "launch/bench/random_weights.h"
#include "runtime/model/text_encoder.h"

namespace longtake {

void bench_text(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  TextEncoderConfig config;
  config.vocab = 256;
  config.d_model = setup.dim;
  config.d_kv = setup.head_dim;
  config.heads = setup.heads;
  config.d_ff = setup.ffn;
  config.layers = 2;
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.safetensors";
  write_random_weights(file, text_encoder_tensors(config), DType::bf16, 1);
  const Weights weights(file, WeightsOf::text_encoder);
  const TextEncoder encoder(weights, config, setup.dtype, stream);
  BenchReport report("text", setup);
  for (const int64_t tokens : setup.tokens) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>(i % config.vocab));
    const auto n = static_cast<double>(tokens), d = static_cast<double>(config.d_model);
    const auto inner = static_cast<double>(config.heads * config.d_kv);
    const double layer =
        8 * n * d * inner + 4 * n * n * inner + 6 * n * d * static_cast<double>(config.d_ff);
    const double flops = static_cast<double>(config.layers) * layer;
    BenchRow row = device.measure(flops, [&] { encoder.encode(ids, stream); });
    row.labels = {{"tokens", tokens},
                  {"layers", config.layers},
                  {"dim", config.d_model},
                  {"heads", config.heads},
                  {"head_dim", config.d_kv},
                  {"ffn", config.d_ff},
                  {"dtype", std::string(name(setup.dtype))}};
    report.add(std::move(row));
  }
  report.close();
}

}  // namespace longtake
