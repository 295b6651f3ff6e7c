// One visit of one pipeline stage on random weights: its layers on a block's tokens, once for each
// guidance branch, with features of both neighbours to read and its own to publish, as the executor
// does with the rule `aligned`. The stage owns the layers [A, B) of --layers.
#include <array>

#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"
#include "launch/bench/random_weights.h"
#include "runtime/context/feature_cache.h"
#include "runtime/model/transformer.h"

namespace longtake {

namespace {

constexpr int64_t kBranches = 2;

TransformerConfig stage_config(const BenchSetup& setup) {
  TransformerConfig c;
  c.heads = setup.heads;
  c.head_dim = setup.head_dim;
  c.in_channels = c.out_channels = 16;
  c.text_dim = 64;  // of the text embedder, which is not measured
  c.ffn_dim = setup.ffn;
  c.layers = setup.last_layer;
  return c;
}

// The block in the middle: 1, its neighbours 0 and 2.
class Neighbours : public VisitFeatures {
 public:
  Neighbours(FeatureCache& cache, int64_t rows) : cache_(cache), rows_(rows) {
    for (const Features& f : {kPrefix, kSuffix, kHead, kTail}) cache.make(f, rows);
  }
  void choose(int64_t branch) { branch_ = branch; }

  // Neighbours must hold numbers: what this block publishes, for a start.
  void fill(int64_t layer, LayerFeatures own) {
    for (int64_t branch = 0; branch < kBranches; ++branch)
      for (const Features& f : {kPrefix, kSuffix}) cache_.write(f, branch, layer, own);
  }

  LayerFeatures prefix(int64_t layer) override { return cache_.read(kPrefix, branch_, layer); }
  LayerFeatures suffix(int64_t layer) override { return cache_.read(kSuffix, branch_, layer); }
  void publish(int64_t layer, LayerFeatures all) override {
    const int64_t end = all.k.dim(0);
    cache_.write(kHead, branch_, layer, {all.k.rows(0, rows_), all.v.rows(0, rows_)});
    cache_.write(kTail, branch_, layer,
                 {all.k.rows(end - rows_, end), all.v.rows(end - rows_, end)});
  }

 private:
  static constexpr Features kPrefix{Edge::tail, {0}, {0}}, kSuffix{Edge::head, {2}, {0}},
      kHead{Edge::head, {1}, {0}}, kTail{Edge::tail, {1}, {0}};

  FeatureCache& cache_;
  int64_t rows_, branch_ = 0;
};

double layer_flops(const TransformerConfig& c, int64_t tokens, int64_t context) {
  const auto n = static_cast<double>(tokens), d = static_cast<double>(c.dim()),
             f = static_cast<double>(c.ffn_dim), text = static_cast<double>(c.text_length),
             keys = n + static_cast<double>(context);
  return 8 * n * d * d + 4 * n * keys * d + 4 * n * d * d + 4 * n * text * d + 4 * n * d * f;
}

}  // namespace

void bench_stage(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  const TransformerConfig config = stage_config(setup);
  const int64_t layers = setup.last_layer - setup.first_layer;
  LT_CHECK(config.dim() == setup.dim, "bench stage: {} heads of {} channels are not {}",
           setup.heads, setup.head_dim, setup.dim);
  const TemporaryFolder folder;
  const auto file = folder.path() / "diffusion_pytorch_model.safetensors";
  write_random_weights(file, transformer_tensors(config), DType::bf16, 1);
  const Weights weights(file, WeightsOf::transformer);
  Transformer model(weights, config, {3 * setup.first_layer, 3 * setup.last_layer}, setup.dtype,
                    stream);
  const Modulation modulation = model.modulate(std::array{500.0}, {}, stream);
  const TextContext text = model.text_context(
      normal_tensor(DType::f32, {config.text_length, config.text_dim}, 2), stream);
  BenchReport report("stage", setup);
  for (const int64_t tokens : setup.tokens) {
    LT_CHECK(tokens % setup.block == 0, "bench stage: {} tokens are not {} frames of one size",
             tokens, setup.block);
    const int64_t frame = tokens / setup.block, rows = setup.overlap * frame;
    const LayerRange own{setup.first_layer, setup.first_layer + layers};
    FeatureCache cache(std::vector<LayerRange>(kBranches, own), rows, config.dim(), setup.dtype,
                       stream);
    Neighbours features(cache, rows);
    const OwnedTensor numbers = device.normal(setup.dtype, {rows, config.dim()}, 4);
    for (int64_t layer = setup.first_layer; layer < setup.last_layer; ++layer)
      features.fill(layer, {numbers, numbers});
    std::array<OwnedTensor, kBranches> x;
    for (OwnedTensor& own : x) own = device.normal(DType::f32, {tokens, config.dim()}, 3);
    const Visit visit{{setup.block, 1, frame}, &modulation,  &text, &features,
                      setup.overlap,           setup.overlap};
    const double flops =
        static_cast<double>(kBranches * layers) * layer_flops(config, tokens, 2 * rows);
    BenchRow row = device.measure(flops, [&] {
      for (int64_t branch = 0; branch < kBranches; ++branch) {
        features.choose(branch);
        model.forward(x[static_cast<size_t>(branch)], visit, stream);
      }
    });
    row.labels = {{"layers", fmt::format("{}:{}", setup.first_layer, setup.last_layer)},
                  {"tokens", tokens},
                  {"context", 2 * rows},
                  {"branches", kBranches},
                  {"dim", config.dim()},
                  {"heads", config.heads},
                  {"ffn", config.ffn_dim},
                  {"dtype", std::string(name(setup.dtype))},
                  {"GFLOP", static_cast<int64_t>(flops * 1e-9 + 0.5)}};
    report.add(std::move(row));
  }
  report.close();
}

}  // namespace longtake
