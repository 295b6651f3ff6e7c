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
#include "kernels/cpu/peak.h"
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

Seconds seconds_of(const std::function<void()>& work, int64_t calls) {
  const double cpu = cpu_seconds();
  const auto begin = Clock::now();
  for (int64_t i = 0; i < calls; ++i) work();
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
                      const std::function<double()>& peak) {
  LT_CHECK(repeat >= 1, "expected at least one repetition, found {}", repeat);
  const double first = std::min(seconds_of(work, 1).wall, seconds_of(work, 1).wall);
  const auto calls = static_cast<int64_t>(std::clamp(kShortest_s / first, 1.0, 1e5));
  std::vector<double> seconds, cpu, shares;
  for (int i = 0; i < repeat; ++i) {
    const double at_most = peak ? peak() : 0;
    const Seconds one = seconds_of(work, calls);
    seconds.push_back(one.wall);
    cpu.push_back(one.cpu);
    shares.push_back(at_most > 0 ? amount / seconds.back() / at_most : 0);
  }
  const auto [low, high] = std::minmax_element(seconds.begin(), seconds.end());
  return {*low, median(seconds), *high, median(cpu), median(shares)};
}

BenchReport::BenchReport(std::string name, const BenchSetup& setup)
    : name_(std::move(name)), setup_(setup) {
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
