// Decoding random latents with a VAE of random weights (--vae-dim is the base width, 96 in Wan 2.1)
// or with a model's, whole or in tiles. Operations are those of the model as it is written down,
// whatever shortcuts the decoder takes. MB is the peak memory: it must not grow with the number of
// frames.
#include <algorithm>
#include <chrono>

#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"
#include "launch/bench/peak_memory.h"
#include "launch/bench/random_vae.h"
#include "runtime/model/vae_tiles.h"

namespace longtake {

namespace {

constexpr int64_t kShort = 9;  // frames; longer videos are decoded once, they are here for MB

struct Source {
  std::filesystem::path path;
  VaeConfig config;
};

Source find_source(const BenchSetup& setup, const TemporaryFolder& folder) {
  if (!setup.model.empty()) {
    const auto inside = setup.model / "vae";
    const auto path = std::filesystem::exists(inside) ? inside : setup.model;
    return {path, read_vae_config(path)};
  }
  VaeConfig config;
  config.base_dim = config.decoder_base_dim = setup.vae_dim;
  config.latents_mean.assign(static_cast<size_t>(config.z_dim), 0.0f);
  config.latents_std.assign(static_cast<size_t>(config.z_dim), 1.0f);
  const auto file = folder.path() / "diffusion_pytorch_model.safetensors";
  write_random_weights(file, vae_decoder_tensors(config), DType::f32, 1);
  return {file, config};
}

}  // namespace

void bench_vae(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  const TemporaryFolder folder;
  const Source source = find_source(setup, folder);
  const Weights weights(source.path, WeightsOf::vae);
  const DType compute = stream.on_gpu() ? setup.dtype : DType::f32;
  VaeDecoder whole(weights, source.config, compute, stream);
  TiledVaeDecoder decoder(whole, setup.vae_tile, folder.path());
  const int64_t side = source.config.spatial_factor;
  LT_CHECK(setup.width % side == 0 && setup.height % side == 0,
           "bench vae: expected a size of multiples of {}, found {}x{}", side, setup.width,
           setup.height);
  const int64_t h = setup.height / side, w = setup.width / side;
  const OwnedTensor some =
      normal_tensor(DType::f32, {decoder.at_once(), source.config.z_dim, h, w}, 2);
  BenchReport report("vae", setup);
  for (const int64_t frames : setup.frames) {
    const int64_t latents = (frames - 1) / source.config.temporal_factor + 1;
    const double flops = vae_decoder_flops(source.config, latents, h, w);
    const auto decode = [&] {
      decoder.reset();
      for (int64_t t = 0; t < latents; t += decoder.at_once())
        decoder.decode(
            ConstTensor(some).rows(0, std::min(decoder.at_once(), latents - t)), [](ConstTensor) {},
            stream);
    };
    reset_peak_memory();
    BenchRow row = frames > kShort ? device.measure_once(compute, flops, decode)
                                   : device.measure(flops, decode);
    row.labels = {
        {"width", setup.width},
        {"height", setup.height},
        {"dim", source.config.decoder_base_dim},
        {"tile", setup.vae_tile},
        {"frames", frames},
        {"ms/latent", static_cast<int64_t>(1e3 * row.time.median_s / static_cast<double>(latents))},
        {"MB", peak_memory_bytes() / 1000000},
        {"frames MB", whole.pool().peak_bytes() / 1000000}};
    report.add(std::move(row));
  }
  report.close();
}

}  // namespace longtake
