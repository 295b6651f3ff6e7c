#include "launch/version.h"

#include <fmt/core.h>
#include <spdlog/version.h>
#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "kernels/base/isa.h"
#include "kernels/cuda/stream.h"
#include "runtime/stream/library_versions.h"

namespace longtake {

std::string version() {
  return LONGTAKE_VERSION;
}
std::string commit() {
  return LONGTAKE_COMMIT;
}

std::string onednn_version() {
  return LONGTAKE_DNNL_VERSION;
}

std::string version_text() {
  std::string out = fmt::format("longtake {} ({})\nbackends: cpu (", version(), commit());
  for (const Isa isa : available_isas())
    out += fmt::format("{}{}", isa == Isa::portable ? "" : ", ", name(isa));
  out += cuda::compiled_in() ? "), cuda" : ")";
  std::string why;
  const auto gpus = cuda::devices(&why);
  for (const cuda::DeviceInfo& gpu : gpus)
    out += fmt::format("{}{}", &gpu == &gpus.front() ? " (" : ", ", gpu.name);
  if (cuda::compiled_in()) out += gpus.empty() ? fmt::format(" (no GPU: {})", why) : ")";
  out += "\n";
  const auto row = [&](const std::string& library, const std::string& number) {
    out += fmt::format("  {:<14}{}\n", library, number);
  };
  row("oneDNN", onednn_version());
  row("MPI", LONGTAKE_MPI_VERSION);
  for (const auto& [library, number] : stream_libraries()) row(library, number);
  row("fmt",
      fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100));
  row("spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH));
  row("CLI11", CLI11_VERSION);
  row("nlohmann-json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                   NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH));
  return out;
}

}  // namespace longtake
