#include "launch/run_info.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "kernels/base/error.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/latent_reader.h"
#include "runtime/stream/state_file.h"

namespace longtake {

namespace {

constexpr uint64_t kReportLimit = uint64_t{64} << 20;

std::string row(const std::string& name, const std::string& value) {
  return fmt::format("{:<12}{}\n", name, value);
}

std::string indented(std::string_view text) {
  std::string out = "  ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "  ";
  }
  out.resize(out.find_last_not_of(" \n") + 1);
  return out + "\n";
}

std::string going_on(const LatentReader& reader) {
  const StateChoice choice = choose_state(reader.path(), reader.log().states);
  std::string out;
  for (const std::string& lost : choice.lost) out += row("state", lost);
  return out + row("goes on",
                   choice.state ? fmt::format("from the state before sweep {}, {}",
                                              choice.state->sweep, choice.state->files.front().file)
                                : "from the start");
}

std::string progress_of(const LatentReader& reader) {
  const RunIdentity& id = reader.identity();
  uint64_t bytes = 0;
  for (const CommittedBlock& b : reader.blocks()) bytes += b.bytes;
  const int64_t restarts = reader.log().records.empty() ? 0 : reader.log().records.back().epoch - 1;
  std::string out = row("blocks", fmt::format("{} committed, {:.1f} MB", reader.blocks().size(),
                                              static_cast<double>(bytes) / 1e6));
  out += row("latents", fmt::format("{} of {} frames [{}, {}, {}], {}", reader.frames(), id.frames,
                                    id.channels, id.height, id.width,
                                    reader.complete() ? "finished" : "unfinished"));
  for (const Extension& e : reader.log().extensions)
    out += row("made longer", fmt::format("from block {} at latent frame {} to {} video frames",
                                          e.first_block, e.finished_frames, e.video_frames));
  if (restarts > 0) out += row("restarts", fmt::format("{}", restarts));
  if (!reader.complete()) out += going_on(reader);
  if (!reader.log().problem.empty()) out += row("COMMIT", reader.log().problem);
  return out;
}

// report.json is written at the end of a run, for people and scripts; a broken one is not worth an
// error.
std::string speed_of(const std::filesystem::path& run) {
  std::error_code error;
  if (!std::filesystem::exists(run / "report.json", error)) return "";
  try {
    const auto json = nlohmann::json::parse(read_file(run / "report.json", kReportLimit));
    return row("speed", fmt::format("{:.2f} frames/s, {:.1f} s in all, {} ranks",
                                    json.at("frames_per_second").get<double>(),
                                    json.at("seconds").at("total").get<double>(),
                                    json.at("ranks").get<int64_t>()));
  } catch (const nlohmann::json::exception& e) {
    return row("speed", fmt::format("report.json cannot be read: {}", e.what()));
  }
}

}  // namespace

std::string describe_run(const std::filesystem::path& run) {
  const LatentReader reader(run);
  const RunIdentity& id = reader.identity();
  std::string out = row("run", fmt::format("{} ({})", run.string(), id.uuid));
  out += row("made by", "longtake " + id.version);
  out += row("model", id.model);
  out += row("video", fmt::format("{} frames at {} per second", id.video_frames, id.fps));
  out += row("seed", fmt::format("{}", id.seed));
  out += progress_of(reader) + speed_of(run);
  out += "prompts\n";
  for (const PromptAt& p : id.prompts) {
    out += fmt::format("  {:>8.2f} s  {}\n", static_cast<double>(p.frame) / id.fps, p.text);
  }
  return out + "configuration\n" + indented(id.configuration);
}

}  // namespace longtake
