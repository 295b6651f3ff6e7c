// Times the attention kernels of the GPU on random data: bench_attention [heads] [head_dim]
// [repeats] [tokens ...]. Prints the median of events around one call, the rate of the
// multiplications that the tiles ask for, and the largest difference from the first provider's
// result. Lists of tiles are on the GPU already.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_tiles.h"
#include "tests/gpu/gpu.h"
#include "tests/kernels/rows.h"

namespace longtake::testing {
namespace {

using cuda::AttentionProvider;

constexpr int64_t kTile = AttentionTiles::kTile;
constexpr int64_t kCompared = 2048;         // rows of the result that are compared
constexpr int64_t kPlainMostTokens = 8192;  // the plain kernel takes seconds beyond

struct Tiles {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> keys;
};

// Every tile of keys with this probability.
Tiles random_tiles(int64_t tokens, int64_t heads, double density) {
  const int64_t tiles = (tokens + kTile - 1) / kTile;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  Tiles t;
  for (int64_t row = 0; row < heads * tiles; ++row) {
    for (int64_t j = 0; j < tiles; ++j)
      if (uniform(random) < density) t.keys.push_back(static_cast<int32_t>(j));
    t.offsets.push_back(static_cast<int64_t>(t.keys.size()));
  }
  return t;
}

// Query-key pairs of all heads.
double pairs(const Tiles* tiles, int64_t tokens, int64_t heads) {
  const auto n = static_cast<double>(tokens);
  if (!tiles) return n * n * static_cast<double>(heads);
  const int64_t query_tiles = (tokens + kTile - 1) / kTile;
  const auto width = [&](int64_t tile) { return std::min(kTile, tokens - tile * kTile); };
  double sum = 0;
  for (size_t row = 0; row + 1 < tiles->offsets.size(); ++row)
    for (int64_t i = tiles->offsets[row]; i < tiles->offsets[row + 1]; ++i)
      sum += static_cast<double>(width(static_cast<int64_t>(row) % query_tiles)) *
             static_cast<double>(width(tiles->keys[static_cast<size_t>(i)]));
  return sum;
}

double median_ms(Gpu& gpu, const AttentionArgs& args, AttentionProvider provider, int repeats) {
  cudaEvent_t start, stop;
  LT_CUDA(cudaEventCreate(&start));
  LT_CUDA(cudaEventCreate(&stop));
  std::vector<float> times;
  for (int i = -2; i < repeats; ++i) {
    LT_CUDA(cudaEventRecord(start, gpu.queue().handle()));
    cuda::attention(args, gpu.queue(), provider);
    LT_CUDA(cudaEventRecord(stop, gpu.queue().handle()));
    LT_CUDA(cudaEventSynchronize(stop));
    float ms = 0;
    LT_CUDA(cudaEventElapsedTime(&ms, start, stop));
    if (i >= 0) times.push_back(ms);
  }
  LT_CUDA(cudaEventDestroy(start));
  LT_CUDA(cudaEventDestroy(stop));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    most = d <= most ? most : d;  // NaN stays
  }
  return most;
}

// What is timed: `keys` as printed, the floating-point operations asked for.
struct Case {
  std::string keys;
  double density = 1, flop = 0;
  int repeats = 5;
};

void bench_providers(Gpu& gpu, const AttentionArgs& args, const Case& c) {
  const int64_t queries = args.q.dim(0), heads = args.q.dim(1), dim = args.q.dim(2);
  std::vector<double> first;
  for (const AttentionProvider provider :
       {AttentionProvider::plain, AttentionProvider::mma, AttentionProvider::wgmma_simple,
        AttentionProvider::wgmma, AttentionProvider::cudnn}) {
    if (provider == AttentionProvider::plain && queries > kPlainMostTokens) continue;
    const auto print = [&](const std::string& result) {
      fmt::print("{:<13} {:>7} {:>7} {:>5} {:>4} {:>7.2f} {}\n", cuda::name(provider), queries,
                 c.keys, heads, dim, c.density, result);
      std::fflush(stdout);
    };
    const std::string why = cuda::attention_obstacle(args, gpu.queue(), provider);
    if (!why.empty()) {
      print(why);
      continue;
    }
    try {
      const double ms = median_ms(gpu, args, provider, c.repeats);
      const ConstTensor out = args.out;
      const std::vector<double> got =
          to_doubles(gpu.down(out.rows(0, std::min(queries, kCompared))));
      if (first.empty()) first = got;
      print(fmt::format("{:>10.3f} {:>9.1f} {:>10.2e}", ms, c.flop / ms * 1e-9,
                        largest_difference(first, got)));
    } catch (const Error& error) {
      print(error.what());
    }
  }
}

// Every token sees all tokens, or lists of tiles of this density.
void bench_self(Gpu& gpu, AttentionArgs args, int64_t tokens, double density, int repeats) {
  const int64_t heads = args.q.dim(1), dim = args.q.dim(2);
  const KeySegment keys{args.segments[0].k.rows(0, tokens), args.segments[0].v.rows(0, tokens)};
  args.q = args.q.rows(0, tokens);
  args.segments = {&keys, 1};
  args.out = args.out.rows(0, tokens);
  Tiles tiles;
  AttentionTiles view;
  std::optional<cuda::DeviceTiles> on_device;
  if (density < 1) {
    tiles = random_tiles(tokens, heads, density);
    view = {tiles.offsets, tiles.keys};
    on_device.emplace(view, gpu.queue());
    view.on_device = &*on_device;
    args.tiles = &view;
  }
  const double flop =
      4 * static_cast<double>(dim) * pairs(args.tiles ? &tiles : nullptr, tokens, heads);
  bench_providers(gpu, args, {std::to_string(tokens), density, flop, repeats});
}

// Every token sees a prompt of this length and one row that stands for the rest of 512.
void bench_cross(Gpu& gpu, AttentionArgs args, int64_t tokens, int64_t prompt, int repeats) {
  const ConstTensor k = args.segments[0].k, v = args.segments[0].v;
  const float rest = std::log(static_cast<float>(std::max<int64_t>(512 - prompt, 1)));
  const KeySegment segments[] = {{k.rows(0, prompt), v.rows(0, prompt)},
                                 {k.rows(prompt, prompt + 1), v.rows(prompt, prompt + 1), rest}};
  args.q = args.q.rows(0, tokens);
  args.segments = segments;
  args.out = args.out.rows(0, tokens);
  const double flop = 4 * static_cast<double>(args.q.dim(1) * args.q.dim(2)) *
                      static_cast<double>(tokens * (prompt + 1));
  bench_providers(gpu, args, {fmt::format("{}+1", prompt), 1, flop, repeats});
}

int run(int count, char** values) {
  const auto number = [&](int i, int64_t otherwise) {
    return count > i ? std::strtoll(values[i], nullptr, 10) : otherwise;
  };
  const int64_t heads = number(1, 12), dim = number(2, 128);
  const int repeats = static_cast<int>(number(3, 5));
  std::vector<int64_t> sizes;
  for (int i = 4; i < count; ++i) sizes.push_back(number(i, 0));
  if (sizes.empty()) sizes = {4096, 8192, 16384, 32760, 75600, 110000};
  const int64_t most = *std::max_element(sizes.begin(), sizes.end());

  Gpu gpu;
  const Shape shape{most, heads, dim};
  // Uniform in [-1.7, 1.7): of variance 1.
  const OwnedTensor q = gpu.up(random_tensor(shape, 1, 1.7f, DType::bf16));
  const OwnedTensor k = gpu.up(random_tensor(shape, 2, 1.7f, DType::bf16));
  const OwnedTensor v = gpu.up(random_tensor(shape, 3, 1.7f, DType::bf16));
  const KeySegment keys{k, v};
  OwnedTensor out(DType::bf16, shape, gpu.stream().device());
  OwnedTensor lse(DType::f32, {heads, most}, gpu.stream().device());
  fmt::print("{}\n{:<13} {:>7} {:>7} {:>5} {:>4} {:>7} {:>10} {:>9} {:>10}\n",
             gpu.queue().info().name, "provider", "queries", "keys", "heads", "dim", "density",
             "ms", "TFLOP/s", "difference");
  for (const int64_t tokens : sizes) {
    AttentionArgs args;
    args.q = q;
    args.segments = {&keys, 1};
    args.scale = 1 / std::sqrt(static_cast<float>(dim));
    args.out = out;
    args.lse = Tensor(lse.view().data, DType::f32, {heads, tokens}, gpu.stream().device());
    for (const double density : {1.0, 0.5, 0.25}) bench_self(gpu, args, tokens, density, repeats);
    for (const int64_t prompt : {40, 126, 512})
      if (prompt < most) bench_cross(gpu, args, tokens, prompt, repeats);
  }
  return 0;
}

}  // namespace
}  // namespace longtake::testing

int main(int count, char** values) {
  try {
    return longtake::testing::run(count, values);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
