#include "launch/hardware_file.h"

#include "kernels/base/error.h"
#include "launch/number_table.h"

namespace longtake {

namespace {

constexpr double kMost = 1e12;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text)
    out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + '"';
}

std::vector<TableField> fields_of(HardwareFile& h) {
  const auto number = [](const char* section, const char* key, double* value, double low) {
    return TableField{.section = section, .key = key, .number = value, .low = low, .high = kMost};
  };
  std::vector<TableField> out = {
      {.key = "name", .text = &h.name},
      number("", "memory_gb", &h.memory_gb, 1e-3),
      number("", "memory_gb_per_s", &h.memory_gb_per_s, 1e-3),
      number("", "link_gb_per_s", &h.link_gb_per_s, 1e-6),
      number("", "link_latency_us", &h.link_latency_us, 0),
      number("", "operator_us", &h.operator_us, 0),
      {.key = "overlap", .whole = &h.overlap, .low = 0, .high = 1, .optional = true},
  };
  for (const auto& [section, rates] : {std::pair{"f32", &h.f32}, {"bf16", &h.bf16}}) {
    out.push_back(number(section, "linear_gflops", &rates->linear, 1e-3));
    out.push_back(number(section, "attention_gflops", &rates->attention, 1e-3));
    out.push_back(number(section, "conv_gflops", &rates->conv, 1e-3));
  }
  return out;
}

std::vector<TableField> fields_of(HardwareFile::Worker& w) {
  return {
      {.key = "name", .text = &w.name},
      {.key = "count", .whole = &w.count, .low = 1, .high = 100'000},
      {.key = "speed", .number = &w.speed, .low = 1e-6, .high = 1e6},
      {.key = "link_gb_per_s", .number = &w.link_gb_per_s, .low = 1e-6, .high = kMost},
      {.key = "link_latency_us", .number = &w.link_latency_us, .low = 0, .high = kMost},
  };
}

std::string workers_text(const std::vector<HardwareFile::Worker>& workers) {
  std::string out = workers.empty() ? "" : "workers:\n";
  for (const auto& w : workers)
    out += fmt::format(
        "  - {{name: {}, count: {}, speed: {:.4g}, link_gb_per_s: {:.4g}, link_latency_us: "
        "{:.4g}}}\n",
        quoted(w.name), w.count, w.speed, w.link_gb_per_s, w.link_latency_us);
  return out;
}

std::string rates_line(const char* section, const HardwareFile::Rates& rates) {
  if (rates.linear == 0) return "";
  return fmt::format(
      "{:<5} {{linear_gflops: {:.4g}, attention_gflops: {:.4g}, conv_gflops: {:.4g}}}\n",
      std::string(section) + ":", rates.linear, rates.attention, rates.conv);
}

}  // namespace

HardwareProfile HardwareFile::profile(DType dtype) const {
  if (!has(dtype))
    fail(ExitCode::usage, "hardware {}: no rates for precision {}", name, longtake::name(dtype));
  HardwareProfile out;
  out.linear_flops = rates(dtype).linear * 1e9;
  out.attention_flops = rates(dtype).attention * 1e9;
  out.conv_flops = rates(dtype).conv * 1e9;
  out.memory_bandwidth = memory_gb_per_s * 1e9;
  out.memory_bytes = memory_gb * 1e9;
  out.link_bandwidth = link_gb_per_s * 1e9;
  out.link_latency_s = link_latency_us * 1e-6;
  out.operator_s = operator_us * 1e-6;
  for (const Worker& w : workers)
    out.workers.push_back(
        {w.name, w.count, w.speed, w.link_gb_per_s * 1e9, w.link_latency_us * 1e-6, overlap != 0});
  out.overlap = overlap != 0;
  return out;
}

HardwareFile parse_hardware(const std::string& text, const std::string& name) {
  HardwareFile out;
  Problems problems;
  const auto next = [&out] { return fields_of(out.workers.emplace_back()); };
  read_number_table(text, name, fields_of(out), problems, {{"workers", next}});
  if (problems.empty() && !out.has(DType::f32) && !out.has(DType::bf16))
    problems.add(name, "no rates: expected a section f32 or bf16");
  problems.report();
  return out;
}

HardwareFile read_hardware(const std::string& name_or_file) {
  const TableSource table = find_table("hardware", name_or_file);
  return parse_hardware(table.text, table.name);
}

std::string to_yaml(const HardwareFile& h) {
  return fmt::format("name: {}\n", quoted(h.name)) +
         fmt::format("memory_gb: {:.4g}\nmemory_gb_per_s: {:.4g}\n", h.memory_gb,
                     h.memory_gb_per_s) +
         fmt::format("link_gb_per_s: {:.4g}\nlink_latency_us: {:.4g}\noperator_us: {:.4g}\n",
                     h.link_gb_per_s, h.link_latency_us, h.operator_us) +
         (h.overlap == 0 ? "overlap: 0\n" : "") + rates_line("f32", h.f32) +
         rates_line("bf16", h.bf16) + workers_text(h.workers);
}

}  // namespace longtake
