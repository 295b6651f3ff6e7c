#include <fmt/core.h>

#include "kernels/base/error.h"
#include "runtime/stream/latent_reader.h"
#include "runtime/stream/latent_store.h"
#include "runtime/stream/verify_run.h"
#include "tests/crash/disk_image.h"
#include "tests/crash/forty_blocks.h"
#include "tests/crash/parts.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

Ignored parse(const std::string& word) {
  if (word == "file") return Ignored::file;
  if (word == "folder") return Ignored::folder;
  if (word == "log") return Ignored::log;
  LT_CHECK(word.empty(), "expected file, folder or log, found `{}`", word);
  return Ignored::nothing;
}

// All that was reported is there and whole. What follows it may be: the rest of a line, or a line
// some sectors of which are missing, is no commit.
std::string check_reported(const fs::path& run, long reported) {
  if (reported == 0) return "";
  const LatentReader reader(run);
  const CommitLog& log = reader.log();
  if (static_cast<long>(log.records.size()) < reported)
    return fmt::format("{} commits were reported, {} are there: {}", reported, log.records.size(),
                       log.problem);
  if (!log.problem.empty() && !log.torn) return log.problem;
  for (const std::string& found : verify_run(run, true).problems)
    if (log.problem.empty() || found.find(log.problem) == std::string::npos) return found;
  return "";
}

// The same, and the run opens again. `identity`: of the undisturbed run.
std::string check_image(const fs::path& run, long reported, const RunIdentity& identity) {
  try {
    const std::string problem = check_reported(run, reported);
    if (!problem.empty()) return problem;
    if (!fs::exists(run / "report.json")) LatentStore(run, identity).close();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// A run that was killed before, so that its second start is recorded too: just when a state's line
// was written and not synced, which the second start must not trust more than the disk does.
std::vector<Recorded> record(const Subject& subject, const fs::path& folder) {
  const fs::path file = subject.folder("record");
  const Words variables{"CRASH_RECORD=" + file.string()};
  fs::create_directory(folder);
  const auto start = [&](const Words& more) {
    Words all = variables;
    all.insert(all.end(), more.begin(), more.end());
    return Job(subject.generate(folder / "run", {2, true}), shim(folder, all), subject.log())
        .wait();
  };
  const Ended killed = start({"CRASH_KILL=8:state"});
  LT_CHECK(killed.signal == 9, "the first half: {}", describe(killed));
  const Ended ended = start({});
  LT_CHECK(ended.code == 0, "the second half: {}", describe(ended));
  return read_record(file, folder);
}

// How many images follow each call: a third of them the calls that make the run, of which a few
// decide whether there is one.
std::vector<long> images_after(long images, long calls) {
  constexpr long kCreation = 30;
  std::vector<long> out(static_cast<size_t>(calls));
  for (long k = 0; k < images; ++k)
    ++out[static_cast<size_t>(k % 3 == 0 ? k / 3 % kCreation : k * calls / images)];
  return out;
}

struct PowerCuts {
  const Subject& subject;
  RunIdentity identity;
  std::mt19937 random;
  bool mutant = false;
  long made = 0, resumed = 0, findings = 0;

  void cut(const Disk& disk, const std::string& where) {
    constexpr long kEvery = 25;  // of the images are gone on with
    const fs::path image = subject.folder("image");
    fs::remove_all(image);
    disk.write_image(image, random);
    std::string problem = check_image(image / "run", disk.reported(), identity);
    if (problem.empty() && !mutant && made % kEvery == 0) {
      problem = subject.finish(image / "run", {1 + static_cast<int>(made % 2), true});
      ++resumed;
    }
    ++made;
    if (problem.empty()) return;
    if (++findings <= 20 && !mutant) fmt::print("cut after {}: {}\n", where, problem);
  }
};

}  // namespace

int power_loss(long images, unsigned seed, const std::string& ignored) {
  const Subject subject(forty_blocks());
  const std::vector<Recorded> calls = record(subject, subject.folder("recorded"));
  const std::vector<long> after = images_after(images, static_cast<long>(calls.size()));
  PowerCuts cuts{subject,
                 parse_run_identity(file_text(subject.folder("undisturbed/RUN.json")), "RUN.json"),
                 std::mt19937(seed), !ignored.empty()};
  Disk disk(parse(ignored));
  for (size_t i = 0; i < calls.size(); ++i) {
    disk.play(calls[i]);
    for (long k = 0; k < after[i]; ++k)
      cuts.cut(disk, fmt::format("call {} ({} {})", i + 1,
                                 kCallNames[static_cast<size_t>(calls[i].call)], calls[i].path));
  }
  fmt::print("power cuts{}: {} images of {} calls, {} gone on with, {} findings\n",
             ignored.empty() ? "" : " without fsync of " + ignored, cuts.made, calls.size(),
             cuts.resumed, cuts.findings);
  if (ignored.empty()) return static_cast<int>(cuts.findings);
  return cuts.findings > 0 ? 0 : 1;  // a missing fsync must be seen
}

}  // namespace longtake::crash
