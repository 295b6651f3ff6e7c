#include <fmt/core.h>

#include "kernels/base/error.h"
#include "runtime/stream/latent_reader.h"
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
std::string check_image(const fs::path& run, long reported) {
  if (reported == 0) return "";  // it begins again, which finish() shows
  try {
    const LatentReader reader(run);
    const CommitLog& log = reader.log();
    if (static_cast<long>(log.records.size()) < reported)
      return fmt::format("{} commits were reported, {} are there: {}", reported, log.records.size(),
                         log.problem);
    if (!log.problem.empty() && !log.torn) return log.problem;
    for (const std::string& found : verify_run(run, true).problems)
      if (log.problem.empty() || found.find(log.problem) == std::string::npos) return found;
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// A run that was killed before, so that its second start is recorded too.
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
  const Ended killed = start({"CRASH_KILL=700:after"});
  LT_CHECK(killed.signal == 9, "the first half: {}", describe(killed));
  const Ended ended = start({});
  LT_CHECK(ended.code == 0, "the second half: {}", describe(ended));
  return read_record(file, folder);
}

}  // namespace

int power_loss(long images, unsigned seed, const std::string& ignored) {
  const Subject subject(forty_blocks());
  const std::vector<Recorded> calls = record(subject, subject.folder("recorded"));
  const auto count = static_cast<long>(calls.size());
  constexpr long kEvery = 25;  // of the images are gone on with
  std::mt19937 random(seed);
  long made = 0, findings = 0, resumed = 0;
  const fs::path image = subject.folder("image");
  // In passes over the record, as many as the images need; each image at its own place.
  for (const long passes = (images + count - 1) / count; made < images;) {
    Disk disk(parse(ignored));
    const long in_pass = (images + passes - 1) / passes;
    for (long i = 0, next = 0; i < count && made < images; ++i) {
      disk.play(calls[static_cast<size_t>(i)]);
      if (i * in_pass / count < next) continue;
      next = i * in_pass / count + 1;
      fs::remove_all(image);
      disk.write_image(image, random);
      std::string problem = check_image(image / "run", disk.reported());
      // Before the first commit that is all there is to see.
      const bool go_on = made % kEvery == 0 || disk.reported() == 0;
      if (problem.empty() && ignored.empty() && go_on) {
        problem = subject.finish(image / "run", {1 + static_cast<int>(made % 2), true});
        ++resumed;
      }
      ++made;
      if (problem.empty()) continue;
      if (++findings <= 20 && ignored.empty())
        fmt::print("cut after call {} ({} {}): {}\n", i + 1,
                   kCallNames[static_cast<size_t>(calls[static_cast<size_t>(i)].call)],
                   calls[static_cast<size_t>(i)].path, problem);
    }
  }
  fmt::print("power cuts{}: {} images of {} calls, {} gone on with, {} findings\n",
             ignored.empty() ? "" : " without fsync of " + ignored, made, count, resumed, findings);
  if (ignored.empty()) return static_cast<int>(findings);
  return findings > 0 ? 0 : 1;  // a missing fsync must be seen
}

}  // namespace longtake::crash
