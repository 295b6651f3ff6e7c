// Reading a transformer against reading the same bytes with read() and copying them once: what no
// loader can do without. Peak memory is the kernel's own count. Each repetition of the loader is
// compared with read and copy just before it: "peak %" is their rate's share, the median of pairs.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "launch/bench/bench.h"
#include "launch/bench/peak_memory.h"
#include "launch/bench/random_weights.h"
#include "runtime/model/transformer.h"

namespace longtake {

namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr int64_t kLayers = 4;  // of the random model

std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.path().extension() == ".safetensors") out.push_back(entry.path());
  return out;
}

int64_t megabytes(double bytes) {
  return static_cast<int64_t>(bytes * 1e-6 + 0.5);
}

void read_and_copy(const std::vector<std::filesystem::path>& files) {
  Buffer piece(kPiece);
  for (const auto& path : files) {
    Buffer all(std::filesystem::file_size(path));
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(ExitCode::missing_input, "cannot read {}", path.string());
    char* to = static_cast<char*>(all.data());
    for (ssize_t n; (n = ::read(fd, piece.data(), kPiece)) > 0; to += n)
      std::memcpy(to, piece.data(), static_cast<size_t>(n));
    ::close(fd);
  }
}

struct Source {
  std::filesystem::path path;
  TransformerConfig config;
};

Source find_source(const BenchSetup& setup, const TemporaryFolder& folder) {
  if (!setup.model.empty()) {
    const auto inside = setup.model / "transformer";
    const auto path = std::filesystem::exists(inside) ? inside : setup.model;
    return {path, read_transformer_config(path)};
  }
  TransformerConfig c;
  c.heads = setup.heads;
  c.head_dim = setup.head_dim;
  c.in_channels = c.out_channels = 16;
  c.text_dim = 4096;
  c.ffn_dim = setup.ffn;
  c.layers = kLayers;
  const auto file = folder.path() / "diffusion_pytorch_model.safetensors";
  write_random_weights(file, transformer_tensors(c), DType::bf16, 1);
  return {file, c};
}

}  // namespace

void bench_weights(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  const TemporaryFolder folder;
  const Source source = find_source(setup, folder);
  const auto files = files_of(source.path);
  double bytes = 0;
  for (const auto& file : files) bytes += static_cast<double>(std::filesystem::file_size(file));
  BenchReport report("weights", setup);
  size_t kept = 0;
  const auto copy = [&] { read_and_copy(files); };
  const auto load = [&] {
    const Weights weights(source.path, WeightsOf::transformer);
    const Transformer model(weights, source.config, Transformer::all_units(source.config),
                            setup.dtype, stream);
    kept = model.weight_bytes();
  };
  int64_t most = 0;
  const auto watched = [&](const std::function<void()>& work) {
    most = 0;
    return [&most, work] {
      reset_peak_memory();
      const int64_t before = peak_memory_bytes();
      work();
      most = std::max(most, peak_memory_bytes() - before);
    };
  };
  const auto copy_rate = [&] {
    const auto begin = std::chrono::steady_clock::now();
    copy();
    return bytes / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  const auto add = [&](const char* part, const BenchTiming& timing) {
    BenchRow row;
    row.time = timing;
    row.labels = {{"part", std::string(part)},
                  {"dtype", std::string(name(setup.dtype))},
                  {"file MB", megabytes(bytes)},
                  {"kept MB", megabytes(static_cast<double>(kept))},
                  {"peak MB", megabytes(static_cast<double>(most))}};
    row.rate = bytes / row.time.median_s * 1e-9;
    row.unit = "GB/s";
    if (kept > 0) row.peak_share = row.time.share;
    report.add(std::move(row));
  };
  add("read+copy", time_work(setup.repeat, bytes, watched(copy), {}));
  add("load",
      time_work(setup.repeat, bytes, watched(load), copy_rate, [&] { stream.synchronize(); }));
  report.close();
}

}  // namespace longtake
