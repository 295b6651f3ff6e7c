// What all benches share: what they are told, timing against the peak measured in the same run, a
// table and JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/tensor.h"
#include "launch/work_device.h"

namespace longtake {

// What a bench is told: launch/commands.h with nothing left to choose.
struct BenchSetup {
  int64_t dim = 1536;
  int64_t heads = 12;
  int64_t head_dim = 128;
  int64_t ffn = 8960;
  std::vector<int64_t> tokens = {3072, 6144};  // one row each
  int64_t kv_tokens = 0;                       // 0: as many as tokens
  int64_t vae_dim = 96;
  int64_t width = 64, height = 48;             // pixels
  std::vector<int64_t> frames = {9, 81, 401};  // of video, one row each
  int64_t vae_tile = 0;                        // pixels, 0: whole pictures
  int64_t first_layer = 0, last_layer = 2;     // of a stage: [first, last)
  int64_t block = 8, overlap = 4;              // latent frames of own tokens, of each neighbour
  DType dtype = DType::f32;                    // f32 or bf16
  DeviceChoice device = DeviceChoice::cpu;     // chosen
  int threads = 1;
  int repeat = 5;
  bool mpi = false;              // started by mpirun
  std::filesystem::path model;   // empty: random weights
  std::filesystem::path folder;  // to write in; empty: the system's for temporary files
  std::filesystem::path json;    // empty: none
};

struct BenchTiming {
  double min_s = 0, median_s = 0, max_s = 0;
  double cpu_s = 0;  // median of the processor time of all threads: below threads * median_s when
                     // other programs run on the same cores; 0: not measured
  double share = 0;  // median of (rate of a repetition / peak measured right before it)
};

struct BenchRow {
  using Label = std::pair<std::string, std::variant<int64_t, double, std::string>>;
  std::vector<Label> labels;  // the same names in every row of a bench
  BenchTiming time;
  double rate = 0;   // in `unit`, at the median
  std::string unit;  // "GFLOP/s", "GB/s", "MB/s"
  std::optional<double> peak_share;
  std::optional<double> error;  // largest relative difference to the double-precision reference
};

// Floating-point operations per second that `threads` cores like this one can do at most in `dtype`
// with the active instruction set (f32 where it has no bf16 products). Takes a few milliseconds.
double measure_core_peak(DType dtype, int threads);

// The device that a bench runs on, and its peak.
class BenchDevice {
 public:
  explicit BenchDevice(const BenchSetup& setup);

  StreamRef stream() { return device_.stream(); }
  // Standard normal numbers on the device.
  OwnedTensor normal(DType dtype, Shape shape, uint64_t seed);
  // FLOP/s that were measured just now: of the cores, or of a large product on the GPU.
  double peak(DType dtype);
  // Time, rate and share of the peak of `work`, which does `flops` operations in setup's dtype.
  BenchRow measure(double flops, const std::function<void()>& work);
  // The same of one call, for what takes long.
  BenchRow measure_once(DType dtype, double flops, const std::function<void()>& work);

 private:
  struct Product;  // of the GPU's peak
  const BenchSetup& setup_;
  ThreadPool pool_;
  WorkDevice device_;
  std::shared_ptr<Product> product_;
};

// Calls `work` (`amount` operations or bytes) `repeat` times after a warm-up; short work is called
// several times per repetition. `peak` is measured before every repetition, so that a busy or
// throttled machine changes both alike; it may be empty.
// `finish`, if any, ends every repetition: it waits for a GPU.
BenchTiming time_work(int repeat, double amount, const std::function<void()>& work,
                      const std::function<double()>& peak,
                      const std::function<void()>& finish = {});

// Prints a header line before the first row and every row when it is added.
class BenchReport {
 public:
  BenchReport(std::string name, const BenchSetup& setup);

  void add(BenchRow row);
  void close();  // writes the JSON file, when the setup names one

 private:
  void print_header(const BenchRow& row) const;

  std::string name_;
  BenchSetup setup_;
  std::vector<BenchRow> rows_;
};

void bench_attention(const BenchSetup& setup);
void bench_block(const BenchSetup& setup);
void bench_channel(const BenchSetup& setup);
void bench_gemm(const BenchSetup& setup);
void bench_stage(const BenchSetup& setup);
void bench_store(const BenchSetup& setup);
void bench_text(const BenchSetup& setup);
void bench_vae(const BenchSetup& setup);
void bench_weights(const BenchSetup& setup);

// The benches that `longtake bench` knows, sorted.
std::vector<std::string> bench_names();

}  // namespace longtake
