#include "tests/crash/subject.h"

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/base/error.h"
#include "runtime/stream/commit_log.h"
#include "runtime/stream/sha256.h"
#include "runtime/stream/verify_run.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  LT_CHECK(text, "{} is not set; ctest and full.sh set it", name);
  return text;
}

}  // namespace

std::string name(const Layout& layout) {
  return fmt::format("{} {}", layout.ranks, layout.loopback ? "threads" : "ranks");
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

Words shim(const fs::path& folder, const Words& variables) {
  Words out{"LD_PRELOAD=" + variable("CRASH_SHIM"), "CRASH_FOLDER=" + folder.string()};
  out.insert(out.end(), variables.begin(), variables.end());
  return out;
}

Subject::Subject(const Words& flags) : flags_(flags) {
  make_undisturbed();
}

void Subject::make_longer(const Words& flags) {
  flags_ = flags;
  fs::copy(folder("undisturbed"), folder("finished"), fs::copy_options::recursive);
  make_undisturbed();
}

void Subject::begin(const fs::path& run) const {
  fs::remove_all(run);
  const fs::path finished = folder("finished");
  if (fs::exists(finished)) fs::copy(finished, run, fs::copy_options::recursive);
}

void Subject::make_undisturbed() {
  const fs::path run = folder("undisturbed");
  const auto start = std::chrono::steady_clock::now();
  const Ended ended = Job(generate(run, {}), {}, log()).wait();
  seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  LT_CHECK(ended.code == 0, "the undisturbed run: {}", describe(ended));
  const auto report = nlohmann::json::parse(file_text(run / "report.json"));
  expected_ = report.at("latents_sha256").get<std::string>();
  LT_CHECK(expected_.size() == 64, "no hash in {}", (run / "report.json").string());
}

Words Subject::command(const Words& what, const Layout& layout) const {
  Words out;
  if (layout.ranks > 1 && !layout.loopback)
    out = {"mpirun", "-n", std::to_string(layout.ranks), "--oversubscribe", "--bind-to", "none"};
  out.push_back(variable("LONGTAKE_BINARY"));
  out.insert(out.end(), what.begin(), what.end());
  for (const char* word : {"--threads", "1", "--no-progress", "-q", "--deadline", "60"})
    out.push_back(word);
  if (layout.loopback)
    for (const std::string& word : {std::string("--transport"), std::string("loopback"),
                                    std::string("--stages"), std::to_string(layout.ranks)})
      out.push_back(word);
  return out;
}

Words Subject::generate(const fs::path& run, const Layout& layout) const {
  Words what{"generate", variable("LONGTAKE_SOURCE_DIR") + "/configs/demo/short.yaml", "-o", run};
  what.insert(what.end(), flags_.begin(), flags_.end());
  for (const char* word : {"--hardware", "a100"}) what.push_back(word);  // measuring takes time
  return command(what, layout);
}

Words Subject::resume(const fs::path& run, const Layout& layout) const {
  return command({"resume", run, "--checkpoint-every", "1"}, layout);
}

std::string Subject::check_hash(const fs::path& run) const {
  const VerifyReport report = verify_run(run, true);
  if (!report.problems.empty()) return "the finished run: " + report.problems.front();
  if (report.frames != report.frames_expected) return "the run is not complete";
  if (report.latents_sha256 != expected_)
    return fmt::format("another hash: {}, expected {}", report.latents_sha256, expected_);
  const auto found = nlohmann::json::parse(file_text(run / "report.json"), nullptr, false);
  if (found.is_discarded() || found.value("latents_sha256", "") != expected_)
    return "report.json does not hold the hash";
  const fs::path video = run / "video.mp4";
  if (file_text(video) != file_text(folder("undisturbed/video.mp4")))
    return "another video than that of the undisturbed run";
  return "";
}

std::string Subject::finish(const fs::path& run, const Layout& layout) const {
  const std::string report = file_text(run / "report.json");
  const bool ended_before = !report.empty() && report != file_text(folder("finished/report.json"));
  if (ended_before) return check_hash(run);
  const Ended ended = Job(generate(run, layout), {}, log()).wait();
  if (ended.code != 0) return fmt::format("going on with {}: {}", name(layout), describe(ended));
  return check_hash(run);
}

std::string check_committed(const fs::path& run, Seen& seen) {
  if (!fs::exists(run / "RUN.json")) return seen.log.empty() ? "" : "RUN.json is gone";
  try {
    const VerifyReport report = verify_run(run, true);
    for (const std::string& problem : report.problems) return "verify: " + problem;
    const std::string text = file_text(run / "COMMIT");
    const CommitLog log = parse_commit_log(text, sha256_hex(file_text(run / "RUN.json")));
    const std::string held = text.substr(0, log.valid_bytes);
    if (!held.starts_with(seen.log)) return "COMMIT has lost lines that held before";
    seen = {held, static_cast<int64_t>(log.blocks.size()),
            static_cast<int64_t>(log.records.size())};
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace longtake::crash
