#include "launch/report.h"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "launch/version.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

std::string to_json(const RunReport& r) {
  nlohmann::ordered_json per_rank = nlohmann::json::array();
  for (const RankReport& k : r.per_rank)
    per_rank.push_back({{"rank", k.rank},
                        {"host", k.host},
                        {"layers", {k.first_layer, k.last_layer}},
                        {"weight_bytes", k.weight_bytes},
                        {"peak_bytes", k.peak_bytes},
                        {"device_peak_bytes", k.device_peak_bytes},
                        {"compute_s", k.compute_s},
                        {"comm_s", k.comm_s},
                        {"wait_s", k.wait_s},
                        {"io_s", k.io_s}});
  const nlohmann::ordered_json json{{"version", version()},
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
                                    {"latents_sha256", r.latents_sha256},
                                    {"seed", r.seed},
                                    {"seconds",
                                     {{"total", r.seconds.total},
                                      {"load", r.seconds.load},
                                      {"text", r.seconds.text},
                                      {"denoise", r.seconds.denoise},
                                      {"decode", r.seconds.decode},
                                      {"first_frames", r.seconds.first_frames}}},
                                    {"frames_per_second", r.frames_per_second()},
                                    {"per_rank", per_rank}};
  return json.dump(1) + "\n";
}

std::string to_text(const RunReport& r) {
  const double total = r.seconds.total > 0 ? r.seconds.total : 1;
  std::string out = fmt::format(
      "{} frames in {:.2f} s: {:.2f} frames/s ({} {} {}, {} rank{}, {} thread{})\n"
      "section     seconds   share\n",
      r.frames, r.seconds.total, r.frames_per_second(), r.device, r.isa, r.precision, r.ranks,
      r.ranks == 1 ? "" : "s", r.threads, r.threads == 1 ? "" : "s");
  const double named = r.seconds.load + r.seconds.text + r.seconds.denoise + r.seconds.decode;
  const std::array<std::pair<const char*, double>, 5> rows{{{"load", r.seconds.load},
                                                            {"text", r.seconds.text},
                                                            {"denoise", r.seconds.denoise},
                                                            {"decode", r.seconds.decode},
                                                            {"other", r.seconds.total - named}}};
  for (const auto& [section, seconds] : rows)
    out += fmt::format("{:<10} {:>8.3f} {:>6.1f}%\n", section, seconds, 100 * seconds / total);
  for (const RankReport& k : r.per_rank)
    out += fmt::format("rank {} on {}: weights {:.1f} MB, peak {:.1f} MB\n", k.rank, k.host,
                       static_cast<double>(k.weight_bytes) / 1e6,
                       static_cast<double>(k.peak_bytes) / 1e6);
  return out + "latents sha256 " + r.latents_sha256 + "\n";
}

void write_report(const RunReport& report, const std::filesystem::path& run) {
  replace_file(run / "report.json", to_json(report));
  replace_file(run / "report.txt", to_text(report));
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
