#include "launch/report.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "launch/version.h"
#include "launch/worker_report.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

struct Field {
  const char* name;
  double RankReport::*seconds;
};

// Rows of the table and keys of the JSON.
constexpr std::array<Field, 10> kSections{{{"load", &RankReport::load_s},
                                           {"attention", &RankReport::attention_s},
                                           {"linear", &RankReport::linear_s},
                                           {"other", &RankReport::other_s},
                                           {"solver", &RankReport::solver_s},
                                           {"send", &RankReport::send_s},
                                           {"wait", &RankReport::wait_s},
                                           {"checkpoint", &RankReport::checkpoint_s},
                                           {"idle", &RankReport::idle_s},
                                           {"store", &RankReport::store_s}}};
constexpr std::array<Field, 4> kMoreSeconds{{{"decode", &RankReport::decode_s},
                                             {"served", &RankReport::served_s},
                                             {"run", &RankReport::run_s},
                                             {"first_frames", &RankReport::first_frames_s}}};

nlohmann::ordered_json json_of(const RankReport& k) {
  nlohmann::ordered_json json{
      {"rank", k.rank},
      {"host", k.host},
      {"layers", {static_cast<double>(k.first_unit) / 3, static_cast<double>(k.end_unit) / 3}},
      {"units", {k.first_unit, k.end_unit}},
      {"weight_bytes", k.weight_bytes},
      {"buffer_bytes", k.buffer_bytes},
      {"peak_bytes", k.peak_bytes},
      {"device_peak_bytes", k.device_peak_bytes},
      {"compute_s", k.attention_s + k.linear_s + k.other_s + k.solver_s},
      {"comm_s", k.send_s},
      {"io_s", k.store_s + k.decode_s}};
  for (const Field& f : kSections) json[std::string(f.name) + "_s"] = k.*f.seconds;
  for (const Field& f : kMoreSeconds) json[std::string(f.name) + "_s"] = k.*f.seconds;
  json["served_tasks"] = k.served_tasks;
  if (k.attention.calls > 0) json["attention_workers"] = json_of(k.attention);
  return json;
}

}  // namespace

std::string pack(const RankReport& report) {
  return json_of(report).dump();
}

RankReport unpack(const std::string& packed) {
  const auto json = nlohmann::json::parse(packed);
  RankReport k;
  k.rank = json.at("rank");
  k.host = json.at("host");
  k.first_unit = json.at("units").at(0);
  k.end_unit = json.at("units").at(1);
  k.weight_bytes = json.at("weight_bytes");
  k.buffer_bytes = json.at("buffer_bytes");
  k.peak_bytes = json.at("peak_bytes");
  k.device_peak_bytes = json.at("device_peak_bytes");
  for (const Field& f : kSections) k.*f.seconds = json.at(std::string(f.name) + "_s");
  for (const Field& f : kMoreSeconds) k.*f.seconds = json.at(std::string(f.name) + "_s");
  k.served_tasks = json.at("served_tasks");
  if (json.contains("attention_workers"))
    k.attention = dispatch_report_of(json.at("attention_workers"));
  return k;
}

std::string pack(const CommitReport& r) {
  return nlohmann::json{{"latents_sha256", r.latents_sha256},
                        {"commits", r.commits},
                        {"blocks", r.blocks},
                        {"p50_s", r.p50_s},
                        {"p99_s", r.p99_s}}
      .dump();
}

CommitReport unpack_commits(const std::string& packed) {
  const auto json = nlohmann::json::parse(packed);
  return {json.at("latents_sha256"), json.at("commits"), json.at("blocks"), json.at("p50_s"),
          json.at("p99_s")};
}

double RunReport::idle_share() const {
  double lost = 0, all = 0;
  for (const RankReport& k : per_rank) {
    lost += k.wait_s + k.idle_s;
    all += k.run_s;
  }
  return all > 0 ? lost / all : 0;
}

std::string to_json(const RunReport& r) {
  nlohmann::ordered_json per_rank = nlohmann::json::array();
  for (const RankReport& k : r.per_rank) per_rank.push_back(json_of(k));
  nlohmann::ordered_json predicted = nlohmann::json::array();
  for (const Predicted::Rank& k : r.predicted.per_rank)
    predicted.push_back({{"busy_s", k.busy_s}, {"peak_bytes", k.peak_bytes}});
  const nlohmann::ordered_json json{
      {"version", version()},
      {"commit", commit()},
      {"ranks", r.ranks},
      {"stages", r.stages},
      {"branches", r.branches},
      {"workers", r.workers},
      {"device", r.device},
      {"precision", r.precision},
      {"isa", r.isa},
      {"threads", r.threads},
      {"frames", r.frames},
      {"blocks", r.blocks},
      {"steps", r.steps},
      {"latents_sha256", r.commit.latents_sha256},
      {"seed", r.seed},
      {"seconds",
       {{"total", r.seconds.total},
        {"load", r.seconds.load},
        {"text", r.seconds.text},
        {"denoise", r.seconds.denoise},
        {"decode", r.seconds.decode},
        {"first_frames", r.seconds.first_frames}}},
      {"commits",
       {{"count", r.commit.commits}, {"p50_s", r.commit.p50_s}, {"p99_s", r.commit.p99_s}}},
      {"frames_per_second", r.frames_per_second()},
      {"predicted",
       {{"denoise", r.predicted.denoise_s},
        {"idle_share", r.predicted.idle_share},
        {"total", r.predicted.total_s},
        {"per_rank", predicted}}},
      {"idle_share", r.idle_share()},
      {"per_rank", per_rank}};
  return json.dump(1) + "\n";
}

namespace {

// One line of the table: over all ranks, and its share of the ranks' time.
std::string section(const RunReport& r, const char* name, double RankReport::*seconds) {
  double least = 1e300, most = 0, sum = 0;
  for (const RankReport& k : r.per_rank) {
    least = std::min(least, k.*seconds);
    most = std::max(most, k.*seconds);
    sum += k.*seconds;
  }
  const auto count = static_cast<double>(std::max<size_t>(1, r.per_rank.size()));
  const double all = std::max(1e-9, r.seconds.total) * count;
  return fmt::format("{:<14}{:>10.3f}{:>10.3f}{:>10.3f}{:>8.1f}%\n", name,
                     r.per_rank.empty() ? 0 : least, sum / count, most, 100 * sum / all);
}

std::string beside(const std::string& what, double predicted, double measured, const char* format) {
  const double off = measured > 0 ? 100 * (predicted / measured - 1) : 0;
  return fmt::format("{:<24}{:>12}{:>12}{:>+9.1f}%\n", what,
                     fmt::format(fmt::runtime(format), predicted),
                     fmt::format(fmt::runtime(format), measured), off);
}

std::string predictions(const RunReport& r) {
  std::string out = fmt::format("{:<24}{:>12}{:>12}\n", "", "predicted", "measured");
  out += beside("denoise s", r.predicted.denoise_s, r.seconds.denoise, "{:.3f}");
  out += fmt::format("{:<24}{:>11.2f}%{:>11.2f}%\n", "idle share", 100 * r.predicted.idle_share,
                     100 * r.idle_share());
  for (size_t i = 0; i < std::min(r.per_rank.size(), r.predicted.per_rank.size()); ++i) {
    const RankReport& k = r.per_rank[i];
    const Predicted::Rank& p = r.predicted.per_rank[i];
    out += beside(fmt::format("rank {} busy s", k.rank), p.busy_s, k.busy_s(), "{:.3f}");
    if (k.device_peak_bytes > 0)
      out += beside(fmt::format("rank {} tensors MB", k.rank), p.peak_bytes / 1e6,
                    static_cast<double>(k.device_peak_bytes) / 1e6, "{:.1f}");
  }
  return out;
}

}  // namespace

std::string to_text(const RunReport& r) {
  std::string out = fmt::format(
      "{} frames in {:.2f} s: {:.2f} frames/s ({} {} {}, {} rank{} of {} thread{})\n"
      "text {:.2f} s, load {:.2f} s, denoise {:.2f} s, first frames after {:.2f} s\n"
      "{:<14}{:>10}{:>10}{:>10}{:>9}\n",
      r.frames, r.seconds.total, r.frames_per_second(), r.device, r.isa, r.precision, r.ranks,
      r.ranks == 1 ? "" : "s", r.threads, r.threads == 1 ? "" : "s", r.seconds.text, r.seconds.load,
      r.seconds.denoise, r.seconds.first_frames, "section", "min s", "avg s", "max s", "share");
  for (const Field& f : kSections) out += section(r, f.name, f.seconds);
  out += section(r, "decode", &RankReport::decode_s);
  for (const RankReport& k : r.per_rank)
    out += fmt::format(
        "rank {} on {}: layers {:.2f} to {:.2f}, weights {:.1f} MB, buffers {:.1f} MB, peak {:.1f} "
        "MB\n",
        k.rank, k.host, static_cast<double>(k.first_unit) / 3, static_cast<double>(k.end_unit) / 3,
        static_cast<double>(k.weight_bytes) / 1e6, static_cast<double>(k.buffer_bytes) / 1e6,
        static_cast<double>(k.peak_bytes) / 1e6);
  for (const RankReport& k : r.per_rank) {
    out += to_text(k.attention, k.rank);
    if (k.served_tasks > 0)
      out +=
          fmt::format("rank {} served others with {} tasks, {:.2f} s of its {:.2f} s of waiting\n",
                      k.rank, k.served_tasks, k.served_s, k.wait_s + k.idle_s);
  }
  out += predictions(r);
  out += fmt::format("{} commits, p50 {:.1f} ms, p99 {:.1f} ms\n", r.commit.commits,
                     1e3 * r.commit.p50_s, 1e3 * r.commit.p99_s);
  return out + "latents sha256 " + r.commit.latents_sha256 + "\n";
}

void write_report(const RunReport& report, const std::filesystem::path& run) {
  replace_file(run / "report.json", to_json(report));
  replace_file(run / "report.txt", to_text(report));
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(share * last + 0.5)];
}

uint64_t peak_resident_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "?";
  return name.data();
}

}  // namespace longtake
