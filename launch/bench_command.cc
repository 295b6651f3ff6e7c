// `longtake bench NAME`.
#include <algorithm>
#include <map>

#include "kernels/base/error.h"
#include "launch/bench/bench.h"
#include "launch/commands.h"
#include "launch/machine.h"
#include "launch/work_device.h"

namespace longtake {

namespace {

using Bench = void (*)(const BenchSetup&);

const std::map<std::string, Bench>& benches() {
  static const std::map<std::string, Bench> table = {
      {"attention", bench_attention}, {"block", bench_block}, {"channel", bench_channel},
      {"gemm", bench_gemm},           {"stage", bench_stage}, {"store", bench_store},
      {"text", bench_text},           {"vae", bench_vae},     {"weights", bench_weights},
  };
  return table;
}

}  // namespace

std::vector<std::string> bench_names() {
  std::vector<std::string> names;
  for (const auto& [name, bench] : benches()) names.push_back(name);
  return names;
}

int run_bench(const BenchOptions& options) {
  const auto bench = benches().find(options.name);
  LT_CHECK(bench != benches().end(), "no bench is named {}", options.name);
  BenchSetup setup;
  setup.dim = options.dim;
  setup.heads = options.heads;
  setup.head_dim = options.head_dim;
  setup.ffn = options.ffn;
  setup.tokens = {options.tokens};
  setup.kv_tokens = options.kv_tokens;
  setup.vae_dim = options.vae_dim;
  setup.width = options.width;
  setup.height = options.height;
  if (options.frames > 0) setup.frames = {options.frames};
  setup.device = choose_device(options.device);
  setup.dtype = choose_precision(options.dtype, setup.device);
  setup.threads = choose_threads(options.threads);
  setup.repeat = static_cast<int>(options.repeat);
  setup.vae_tile = options.vae_tile;
  setup.first_layer = options.first_layer;
  setup.last_layer = options.last_layer;
  setup.block = options.block;
  setup.overlap = options.overlap;
  setup.mpi = options.mpi;
  setup.folder = options.folder;
  setup.model = options.model;
  setup.json = options.json;
  bench->second(setup);
  return 0;
}

}  // namespace longtake
