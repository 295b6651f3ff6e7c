#include "launch/bench/bench.h"

#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/base/error.h"
#include "kernels/base/isa.h"
#include "kernels/copy.h"
#include "kernels/cpu/peak.h"
#include "kernels/linear.h"
#include "launch/bench/normal_numbers.h"
#include "launch/machine.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kShortest_s = 5e-3;  // of a repetition
constexpr int kLabelWidth = 10;

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  const size_t half = x.size() / 2;
  return x.size() % 2 ? x[half] : (x[half - 1] + x[half]) / 2;
}

// Of the process, all its threads.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Seconds {
  double wall, cpu;
};

Seconds seconds_of(const std::function<void()>& work, int64_t calls,
                   const std::function<void()>& finish) {
  const double cpu = cpu_seconds();
  const auto begin = Clock::now();
  for (int64_t i = 0; i < calls; ++i) work();
  if (finish) finish();
  const auto n = static_cast<double>(calls);
  return {std::chrono::duration<double>(Clock::now() - begin).count() / n,
          (cpu_seconds() - cpu) / n};
}

std::string text(const BenchRow::Label::second_type& value) {
  if (const auto* number = std::get_if<int64_t>(&value)) return fmt::format("{}", *number);
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:.2f}", *number);
  return std::get<std::string>(value);
}

nlohmann::ordered_json to_json(const BenchRow& row) {
  nlohmann::ordered_json j;
  for (const auto& [name, value] : row.labels)
    std::visit([&j, &name = name](const auto& x) { j[name] = x; }, value);
  j["seconds_median"] = row.time.median_s;
  j["seconds_min"] = row.time.min_s;
  j["seconds_max"] = row.time.max_s;
  if (row.time.cpu_s > 0) j["seconds_cpu"] = row.time.cpu_s;
  j["rate"] = row.rate;
  j["unit"] = row.unit;
  if (row.peak_share) j["peak_share"] = *row.peak_share;
  if (row.error) j["error"] = *row.error;
  return j;
}

}  // namespace

double measure_core_peak(DType dtype, int threads) {
  const cpu::Peak peak = cpu::measure_peak(2);
  return (dtype == DType::bf16 && peak.bf16 > 0 ? peak.bf16 : peak.fma) * threads;
}

BenchTiming time_work(int repeat, double amount, const std::function<void()>& work,
                      const std::function<double()>& peak, const std::function<void()>& finish) {
  LT_CHECK(repeat >= 1, "expected at least one repetition, found {}", repeat);
  const double first = std::min(seconds_of(work, 1, finish).wall, seconds_of(work, 1, finish).wall);
  const auto calls = static_cast<int64_t>(std::clamp(kShortest_s / first, 1.0, 1e5));
  std::vector<double> seconds, cpu, shares;
  for (int i = 0; i < repeat; ++i) {
    const double at_most = peak ? peak() : 0;
    const Seconds one = seconds_of(work, calls, finish);
    seconds.push_back(one.wall);
    cpu.push_back(one.cpu);
    shares.push_back(at_most > 0 ? amount / seconds.back() / at_most : 0);
  }
  const auto [low, high] = std::minmax_element(seconds.begin(), seconds.end());
  return {*low, median(seconds), *high, median(cpu), median(shares)};
}

// A square bf16 (or f32) product, large enough for the GPU's full rate.
struct BenchDevice::Product {
  static constexpr int64_t kSide = 8192;
  DType dtype;
  Linear weight;
  OwnedTensor x, y;
};

BenchDevice::BenchDevice(const BenchSetup& setup)
    : setup_(setup), pool_(setup.threads), device_(setup.device, 0, pool_) {}

OwnedTensor BenchDevice::normal(DType dtype, Shape shape, uint64_t seed) {
  OwnedTensor host = normal_tensor(dtype, shape, seed);
  return setup_.device == DeviceChoice::cuda ? to_device(host, stream()) : std::move(host);
}

double BenchDevice::peak(DType dtype) {
  if (setup_.device == DeviceChoice::cpu) return measure_core_peak(dtype, setup_.threads);
  constexpr int64_t n = Product::kSide;
  const StreamRef s = stream();
  if (!product_ || product_->dtype != dtype) {
    const OwnedTensor weight = normal_tensor(dtype, {n, n}, 11);
    product_ = std::make_shared<Product>(Product{dtype, Linear(weight, {}, dtype, s),
                                                 normal(dtype, {n, n}, 12),
                                                 OwnedTensor(dtype, {n, n}, s.device())});
    linear({.x = product_->x, .y = product_->y}, product_->weight, s);
    s.synchronize();
  }
  constexpr int64_t kCalls = 4;
  const auto work = [&] { linear({.x = product_->x, .y = product_->y}, product_->weight, s); };
  return 2.0 * n * n * n / seconds_of(work, kCalls, [&] { s.synchronize(); }).wall;
}

BenchRow BenchDevice::measure(double flops, const std::function<void()>& work) {
  BenchRow row;
  const StreamRef s = stream();
  row.time = time_work(
      setup_.repeat, flops, work, [&] { return peak(setup_.dtype); }, [&] { s.synchronize(); });
  row.rate = flops / row.time.median_s * 1e-9;
  row.unit = "GFLOP/s";
  row.peak_share = row.time.share;
  return row;
}

BenchRow BenchDevice::measure_once(DType dtype, double flops, const std::function<void()>& work) {
  BenchRow row;
  const double at_most = peak(dtype);
  const StreamRef s = stream();
  const double seconds = seconds_of(work, 1, [&] { s.synchronize(); }).wall;
  row.time = {seconds, seconds, seconds, 0, flops / seconds / at_most};
  row.rate = flops / seconds * 1e-9;
  row.unit = "GFLOP/s";
  row.peak_share = row.time.share;
  return row;
}

BenchReport::BenchReport(std::string name, const BenchSetup& setup)
    : name_(std::move(name)), setup_(setup) {
  if (setup_.device == DeviceChoice::cuda)
    fmt::print("# longtake bench {}: {}, {} repetitions; peak: a product of 8192 x 8192\n", name_,
               device_name(setup_.device), setup_.repeat);
  else
    fmt::print("# longtake bench {}: {}, {} cores, {}, {} thread{}, {} repetitions\n", name_,
               processor_name(), std::thread::hardware_concurrency(), longtake::name(active_isa()),
               setup_.threads, setup_.threads == 1 ? "" : "s", setup_.repeat);
}

void BenchReport::print_header(const BenchRow& row) const {
  std::string line = "#";
  for (const auto& label : row.labels) line += fmt::format(" {:>{}}", label.first, kLabelWidth);
  fmt::print("{} {:>10} {:>10} {:>10} {:>6} {:>10} {:>7} {:>9}\n", line, "min (ms)", "median",
             "max", "cpu %", row.unit, "peak %", "error");
}

void BenchReport::add(BenchRow row) {
  if (rows_.empty()) print_header(row);
  std::string line = " ";
  for (const auto& label : row.labels)
    line += fmt::format(" {:>{}}", text(label.second), kLabelWidth);
  const std::string share = row.peak_share ? fmt::format("{:.1f}", 100 * *row.peak_share) : "-";
  const std::string error = row.error ? fmt::format("{:.1e}", *row.error) : "-";
  const double cpu = 100 * row.time.cpu_s / (row.time.median_s * setup_.threads);
  fmt::print("{} {:>10.3f} {:>10.3f} {:>10.3f} {:>6} {:>10.1f} {:>7} {:>9}\n", line,
             1e3 * row.time.min_s, 1e3 * row.time.median_s, 1e3 * row.time.max_s,
             row.time.cpu_s > 0 ? fmt::format("{:.0f}", cpu) : "-", row.rate, share, error);
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

void BenchReport::close() {
  if (setup_.json.empty()) return;
  nlohmann::ordered_json j;
  j["name"] = name_;
  j["device"] = device_name(setup_.device);
  j["machine"] = {{"cpu", processor_name()},
                  {"cores", std::thread::hardware_concurrency()},
                  {"isa", longtake::name(active_isa())},
                  {"threads", setup_.threads}};
  j["rows"] = nlohmann::ordered_json::array();
  for (const BenchRow& row : rows_) j["rows"].push_back(to_json(row));
  std::ofstream file(setup_.json);
  file << j.dump(2) << '\n';
  file.close();
  if (!file)
    fail(ExitCode::cannot_create, "bench {}: cannot write {}", name_, setup_.json.string());
}

}  // namespace longtake
