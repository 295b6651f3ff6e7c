#include "runtime/stream/verify_run.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/base/error.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/latent_reader.h"
#include "runtime/stream/sha256.h"
#include "runtime/stream/state_file.h"

namespace longtake {

namespace {

void verify_block(const LatentReader& reader, size_t block, bool full, Sha256& hash,
                  VerifyReport& report) {
  try {
    if (!full) {
      reader.check_file(block);
      return;
    }
    const OwnedTensor latents = reader.read(block);
    hash.update(latents.as<float>(), latents.bytes());
    const float* end = latents.as<float>() + latents.numel();
    const float* bad =
        std::find_if(latents.as<float>(), end, [](float x) { return !std::isfinite(x); });
    if (bad != end) {
      report.problems.push_back(fmt::format("{} (block {}): element {} is {}",
                                            (reader.path() / reader.blocks()[block].file).string(),
                                            block, bad - latents.as<float>(), *bad));
    }
  } catch (const Error& e) {
    report.problems.push_back(e.what());
  }
}

// States whose files should be there: the last two of a run that is not complete.
std::vector<CommittedState> kept_states(const LatentReader& reader) {
  const auto& states = reader.log().states;
  const size_t kept = reader.complete() ? 0 : std::min(kStatesKept, states.size());
  return {states.end() - static_cast<std::ptrdiff_t>(kept), states.end()};
}

// What a running writer replaces meanwhile is not missing.
void verify_states(const LatentReader& reader, VerifyReport& report) {
  for (const CommittedState& state : kept_states(reader)) {
    const std::string problem = check_state_files(reader.path(), state);
    ++report.states;
    if (problem.empty()) continue;
    const auto now = kept_states(LatentReader(reader.path()));
    if (std::any_of(now.begin(), now.end(), [&](const CommittedState& s) {
          return s.files.front().file == state.files.front().file;
        }))
      report.problems.push_back(fmt::format("the state before sweep {}: {}", state.sweep, problem));
  }
}

// Files of no commit do no harm: a writer that was stopped between rename and commit leaves one.
// The folder is listed before the log is read again, so that what a running writer adds meanwhile
// is not among them; a part of a state is published before the others, so a running writer may
// have some of the next one there.
void note_leftovers(const std::filesystem::path& run, VerifyReport& report) {
  std::set<std::string> names;
  std::error_code error;
  for (const char* folder : {"out", "state"})
    for (const auto& entry : std::filesystem::directory_iterator(run / folder, error))
      names.insert(fmt::format("{}/{}", folder, entry.path().filename().string()));
  const LatentReader now(run);
  for (const CommittedBlock& b : now.blocks()) names.erase(b.file);
  for (const CommittedState& state : kept_states(now))
    for (const StateFile& file : state.files) names.erase(file.file);
  for (const std::string& name : names) {
    report.notes.push_back(name + " belongs to no commit");
  }
}

}  // namespace

VerifyReport verify_run(const std::filesystem::path& run, bool full) {
  const LatentReader reader(run);
  VerifyReport report;
  report.blocks = static_cast<int64_t>(reader.blocks().size());
  report.frames = reader.frames();
  report.frames_expected = reader.identity().frames;
  const CommitLog& log = reader.log();
  if (!log.problem.empty()) {
    const std::string text = (run / "COMMIT").string() + ": " + log.problem;
    // A line without an end may be one that is being written.
    if (log.torn && !log.newline)
      report.notes.push_back(text + "; it is not a commit");
    else
      report.problems.push_back(text);
  }
  Sha256 hash;
  for (size_t i = 0; i < reader.blocks().size(); ++i) {
    report.bytes += reader.blocks()[i].bytes;
    verify_block(reader, i, full, hash, report);
  }
  verify_states(reader, report);
  note_leftovers(run, report);
  if (full && report.problems.empty()) report.latents_sha256 = hash.hex();
  return report;
}

}  // namespace longtake
