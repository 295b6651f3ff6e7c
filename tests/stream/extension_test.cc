// A finished run that is made longer: what stays, what is refused, and what readers see meanwhile.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <map>

#include "runtime/stream/latent_reader.h"
#include "runtime/stream/state_file.h"
#include "runtime/stream/verify_run.h"
#include "tests/stream/sample_run.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

// As the program makes it: with the lines that depend on the length.
RunIdentity identity_of(int64_t video_frames) {
  RunIdentity id = sample_identity();
  id.video_frames = video_frames;
  id.frames = (video_frames - 1) / 4 + 1;
  id.fingerprint = "model: tiny\n" + frames_line(video_frames) + "steps: 20\n";
  for (const PromptAt& p : id.prompts) id.fingerprint += prompt_line(p);
  id.fingerprint += "weights: 1\n";
  id.configuration = "frames: " + std::to_string(video_frames) + "\n";
  return id;
}

RunIdentity with_prompts(RunIdentity id, const std::vector<PromptAt>& prompts) {
  for (const PromptAt& p : id.prompts) {
    const size_t at = id.fingerprint.find(prompt_line(p));
    id.fingerprint.erase(at, prompt_line(p).size());
  }
  id.prompts = prompts;
  for (const PromptAt& p : prompts)
    id.fingerprint.insert(id.fingerprint.find("weights"), prompt_line(p));
  return id;
}

void finish_run(const fs::path& run) {
  LatentStore store(run, identity_of(21));
  fill(store);
  store.close();
  overwrite(run / "report.json", "{}");
}

std::map<std::string, std::string> block_files(const fs::path& run) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::directory_iterator(run / "out"))
    out[entry.path().filename().string()] = contents(entry.path());
  return out;
}

}  // namespace

TEST_CASE("finished blocks and their commits stay byte for byte, twice") {
  const ScratchFolder scratch;
  const fs::path run = scratch / "run";
  finish_run(run);
  const std::string description = contents(run / "RUN.json");
  for (const int64_t frames : {29, 37}) {
    const auto files = block_files(run);
    const std::string log = contents(run / "COMMIT");
    {
      LatentStore store(run, identity_of(frames));
      CHECK(store.first_block() == static_cast<int64_t>(files.size()));
      CHECK(store.finished_frames() == (frames - 9) / 4 + 1);
      CHECK_FALSE(store.complete());
      CHECK_FALSE(store.resume_state().has_value());
      CHECK_FALSE(fs::exists(run / "report.json"));
      CHECK(contents(run / "COMMIT") == log);
      store.append(sample_block(2, static_cast<uint64_t>(frames)));
      CHECK(store.complete());
      CHECK(store.latents_sha256() == LatentReader(run).latents_sha256());
    }
    overwrite(run / "report.json", "{}");
    CHECK(contents(run / "COMMIT").starts_with(log));
    const auto now = block_files(run);
    CHECK(now.size() == files.size() + 1);
    for (const auto& [name, bytes] : files) CHECK(now.at(name) == bytes);
  }
  CHECK(contents(run / "RUN.json") == description);
  const LatentReader reader(run);
  CHECK(reader.ended());
  CHECK(reader.identity().video_frames == 37);
  CHECK(reader.identity().configuration == "frames: 37\n");
  CHECK(reader.log().extensions.size() == 2);
  const VerifyReport report = verify_run(run, true);
  CHECK(report.problems.empty());
  CHECK(report.notes.empty());
  CHECK(report.frames == 10);
  CHECK(report.frames_expected == 10);
}

TEST_CASE("a run is longer from its next commit on, and then goes on like any other") {
  const ScratchFolder scratch;
  const fs::path run = scratch / "run";
  finish_run(run);

  LatentStore(run, identity_of(37)).close();
  const LatentReader untouched(run);
  CHECK(untouched.complete());
  CHECK_FALSE(untouched.ended());  // its video may be gone: to be made again
  CHECK_NOTHROW(LatentStore(run, identity_of(21)).close());

  {
    LatentStore store(run, identity_of(37));
    const OwnedTensor data = sample_block(1, 9);
    const std::string name = state_file_name(store.epoch(), 2, 0);
    write_state_file(run / name, {2, {{"part", data, 0, nullptr}}});
    const std::string bytes = contents(run / name);
    store.append_state({2, {{name, bytes.size(), sha256_hex(bytes)}}});
  }
  const LatentReader begun(run);
  CHECK_FALSE(begun.complete());
  CHECK(begun.frames() == 6);
  CHECK(begun.identity().frames == 10);
  CHECK(verify_run(run, true).problems.empty());
  const Error shorter = error_of([&] { LatentStore store(run, identity_of(21)); });
  const Error longer = error_of([&] { LatentStore store(run, identity_of(45)); });
  LatentStore store(run, identity_of(37));
  REQUIRE(store.resume_state().has_value());
  CHECK(store.resume_state()->sweep == 2);
  CHECK(store.first_block() == 3);
  CHECK(store.finished_frames() == 6);
  store.append(sample_block(4, 4));
  CHECK(store.complete());

  CHECK(shorter.code() == ExitCode::cannot_create);
  CHECK(mentions(shorter, "is made longer, not shorter"));
  CHECK(longer.code() == ExitCode::cannot_create);
  CHECK(mentions(longer, "only a finished run is made longer"));
}

TEST_CASE("only the length and what comes after the end may be another") {
  const ScratchFolder scratch;
  const fs::path run = scratch / "run";
  finish_run(run);
  const std::string log = contents(run / "COMMIT");
  const auto refused = [&](const RunIdentity& id) {
    const Error error = error_of([&] { LatentStore store(run, id); });
    CHECK(error.code() == ExitCode::cannot_create);
    CHECK(mentions(error, run.string()));
    return error;
  };
  const std::vector<PromptAt> same = identity_of(21).prompts;
  const auto prompts = [&](PromptAt more) {
    std::vector<PromptAt> out = same;
    out.push_back(std::move(more));
    return out;
  };
  RunIdentity weights = identity_of(29);
  weights.fingerprint.replace(weights.fingerprint.find("weights: 1"), 10, "weights: 2");
  RunIdentity steps = identity_of(29);
  steps.fingerprint.replace(steps.fingerprint.find("steps: 20"), 9, "steps: 21");

  CHECK(
      mentions(refused(identity_of(13)), "`video.frames: 21` in the run, `video.frames: 13` now"));
  CHECK(mentions(refused(weights), "`weights: 1` in the run, `weights: 2` now"));
  CHECK(mentions(refused(steps), "`steps: 20` in the run, `steps: 21` now"));
  CHECK(mentions(refused(identity_of(21)), "finished run of 21 frames; ask for more"));
  CHECK(mentions(refused(with_prompts(identity_of(29), prompts({20, "too early"}))),
                 "`prompt at frame 20: too early` now"));
  CHECK(mentions(refused(with_prompts(identity_of(29), {{0, "a red circle"}})),
                 "`prompt at frame 12: ein blaues Quadrat, größer` in the run"));
  CHECK(fs::exists(run / "report.json"));
  CHECK(contents(run / "COMMIT") == log);

  LatentStore store(run, with_prompts(identity_of(29), prompts({21, "a third"})));
  store.append(sample_block(1, 5));
  CHECK(LatentReader(run).identity().prompts.back().text == "a third");
}

TEST_CASE("an extension in the wrong place is damage that is named") {
  const ScratchFolder scratch;
  const fs::path run = scratch / "run";
  finish_run(run);
  const std::string log = contents(run / "COMMIT");
  const CommitLog parsed = LatentReader(run).log();
  const auto problem_with = [&](const std::function<void(Extension&)>& change) {
    CommitRecord record;
    record.seq = 4, record.epoch = 2, record.prev = parsed.head;
    record.extension = extension_to(identity_of(29), 3, 6);
    change(*record.extension);
    overwrite(run / "COMMIT", log + commit_line(record));
    return LatentReader(run).log().problem;
  };

  CHECK(problem_with([](Extension&) {}).empty());
  CHECK(LatentReader(run).identity().frames == 8);
  const std::string place = "line 4 does not hold: field `extension`: it begins after ";
  CHECK(problem_with([](Extension& e) { e.first_block = 2; }) ==
        place + "2 blocks of 6 latent frames, expected 3 of 6");
  CHECK(problem_with([](Extension& e) { e.finished_frames = 7; }) ==
        place + "3 blocks of 7 latent frames, expected 3 of 6");
  CHECK(problem_with([](Extension& e) { e.frames = 6; }) ==
        "line 4 does not hold: field `extension`: 6 latent frames of 29 video frames after 6 "
        "latent frames");
  overwrite(run / "COMMIT", log);
  CommitRecord record;
  record.seq = 3, record.epoch = 1, record.prev = parsed.records[2].prev;
  record.extension = extension_to(identity_of(29), 2, 5);
  overwrite(run / "COMMIT",
            log.substr(0, log.find('\n', log.find('\n') + 1) + 1) + commit_line(record));
  const Error early = error_of([&] { LatentReader reader(run); });
  CHECK(early.code() == ExitCode::bad_data);
  CHECK(mentions(early, "COMMIT: field `extension` at block 2: expected all 6 latent frames"));
}

TEST_CASE("frames are read across blocks") {
  const ScratchFolder scratch;
  finish_run(scratch / "run");
  const LatentReader reader(scratch / "run");
  const OwnedTensor whole = reader.read_frames(0, 6), middle = reader.read_frames(1, 4);

  const size_t frame = 4 * 6 * 5;
  CHECK(std::memcmp(middle.as<float>(), whole.as<float>() + frame, middle.bytes()) == 0);
  const OwnedTensor second = reader.read(1);
  CHECK(std::memcmp(second.as<float>(), whole.as<float>() + 2 * frame, second.bytes()) == 0);
  CHECK_THROWS_AS(reader.read_frames(3, 4), Error);
}

}  // namespace longtake
