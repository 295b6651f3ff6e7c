#include "runtime/stream/latent_reader.h"

#include <doctest/doctest.h>

#include "tests/stream/sample_run.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

void make_run(const fs::path& run) {
  LatentStore store(run, sample_identity());
  fill(store);
}

}  // namespace

TEST_CASE("a torn line at the end of COMMIT never happened") {
  const ScratchFolder scratch;
  make_run(scratch / "run");
  const std::string log = contents(scratch / "run/COMMIT");
  const size_t last = log.rfind('\n', log.size() - 2) + 1;

  for (size_t cut = last + 1; cut < log.size(); cut += 7) {
    overwrite(scratch / "run/COMMIT", log.substr(0, cut));
    const LatentReader reader(scratch / "run");
    CHECK(reader.blocks().size() == 2);
    CHECK(reader.log().torn);
    CHECK(reader.log().valid_bytes == last);
  }

  LatentStore store(scratch / "run", sample_identity());
  CHECK(store.committed_blocks().size() == 2);
  CHECK(store.notice().find("line 3 does not hold: it has no end") != std::string::npos);
  store.append(sample_block(1, 3));
  CHECK(LatentReader(scratch / "run").complete());
}

TEST_CASE("every flipped bit of COMMIT is noticed") {
  const ScratchFolder scratch;
  make_run(scratch / "run");
  const std::string log = contents(scratch / "run/COMMIT");
  const std::string anchor = sha256_hex(contents(scratch / "run/RUN.json"));
  REQUIRE(parse_commit_log(log, anchor).problem.empty());

  int unnoticed = 0;
  for (size_t i = 0; i < log.size(); ++i) {
    std::string damaged = log;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    unnoticed += parse_commit_log(damaged, anchor).problem.empty();
  }

  CHECK(unnoticed == 0);
}

TEST_CASE("damage in the middle of COMMIT is no interrupted commit") {
  const ScratchFolder scratch;
  {
    LatentStore store(scratch / "run", sample_identity());
    store.append(sample_block(2, 1));
    store.append(sample_block(3, 2));
  }
  std::string log = contents(scratch / "run/COMMIT");
  log[20] ^= 1;
  overwrite(scratch / "run/COMMIT", log);

  const Error error = error_of([&] { LatentStore store(scratch / "run", sample_identity()); });

  CHECK(error.code() == ExitCode::bad_data);
  CHECK(mentions(error, "line 1 does not hold"));
  CHECK(LatentReader(scratch / "run").blocks().empty());
}

TEST_CASE("COMMIT of another run is not believed") {
  const ScratchFolder scratch;
  make_run(scratch / "a");
  make_run(scratch / "b");
  overwrite(scratch / "a/COMMIT", contents(scratch / "b/COMMIT"));

  const LatentReader reader(scratch / "a");

  CHECK(reader.blocks().empty());
  CHECK(reader.log().problem ==
        "line 1 does not hold: field `prev`: it was written for another RUN.json");
}

TEST_CASE("a flipped byte in a block is detected before libhdf5 sees it") {
  const ScratchFolder scratch;
  make_run(scratch / "run");
  const fs::path file = scratch / "run/out/b00000001.h5";
  const std::string good = contents(file);
  const LatentReader reader(scratch / "run");

  for (size_t i = 0; i < good.size(); i += 311) {
    std::string damaged = good;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    overwrite(file, damaged);
    const Error error = error_of([&] { reader.read(1); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(mentions(error, "b00000001.h5 (block 1) is damaged"));
  }
}

TEST_CASE("a shortened or missing block is named") {
  const ScratchFolder scratch;
  make_run(scratch / "run");
  const LatentReader reader(scratch / "run");
  fs::resize_file(scratch / "run/out/b00000000.h5", 100);
  fs::remove(scratch / "run/out/b00000002.h5");

  const Error shortened = error_of([&] { reader.read(0); });
  const Error missing = error_of([&] { reader.read(2); });

  CHECK(shortened.code() == ExitCode::bad_data);
  CHECK(mentions(shortened, "holds 100 bytes, COMMIT says"));
  CHECK(missing.code() == ExitCode::missing_input);
  CHECK(mentions(missing, "b00000002.h5"));
}

TEST_CASE("what is no run is said to be none") {
  const ScratchFolder scratch;
  make_run(scratch / "run");
  overwrite(scratch / "run/RUN.json", "{\"format\": 2}");

  const Error absent = error_of([&] { LatentReader reader(scratch / "nothing"); });
  const Error newer = error_of([&] { LatentReader reader(scratch / "run"); });
  overwrite(scratch / "run/RUN.json", "{");
  const Error garbage = error_of([&] { LatentReader reader(scratch / "run"); });

  CHECK(absent.code() == ExitCode::missing_input);
  CHECK(mentions(absent, "is not a run of longtake"));
  CHECK(newer.code() == ExitCode::bad_data);
  CHECK(mentions(newer, "RUN.json: field `format`: 2 found, this version reads format 1"));
  CHECK(garbage.code() == ExitCode::bad_data);
}

}  // namespace longtake
