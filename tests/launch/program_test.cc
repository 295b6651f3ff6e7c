// The program as a user calls it: exit codes, and one message per error.
#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "runtime/stream/latent_store.h"
#include "tests/stream/sample_run.h"
#include "tests/support/call_program.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

// A finished sample run in `folder`.
void make_run(const std::filesystem::path& folder) {
  LatentStore store(folder, sample_identity());
  fill(store);
}

}  // namespace

TEST_CASE("errors are one line and an exit code") {
  CHECK(call("verify /nowhere").code == 66);
  CHECK(call("verify /nowhere").text ==
        "longtake: /nowhere is not a run of longtake: it holds no RUN.json\n");
  CHECK(call("generate --stpes 3").code == 2);
  CHECK(call("generate --stpes 3").text ==
        "longtake: unknown flag --stpes; the nearest is --steps\n");
  CHECK(call("").code == 2);
  CHECK(call("generate /nowhere.yaml").code == 66);
  CHECK(call("info /nowhere").code == 66);
}

TEST_CASE("environment variables are checked") {
  const Outcome isa = call("--version", "LONGTAKE_ISA=mmx");
  const Outcome threads = call("--version", "LONGTAKE_THREADS=-3");

  CHECK(isa.code == 2);
  CHECK(contains(isa.text, "LONGTAKE_ISA"));
  CHECK(threads.code == 2);
  CHECK(contains(threads.text,
                 "LONGTAKE_THREADS: expected a whole number from 1 to 4096, found `-3`"));
}

TEST_CASE("help and version") {
  CHECK(call("--version").code == 0);
  CHECK(contains(call("--version").text, "backends: cpu (portable"));
  CHECK(call("generate --help").code == 0);
  CHECK(call("--help > /dev/full").code == 74);
}

TEST_CASE("verify finds a good run good and a damaged one damaged, and changes nothing") {
  const ScratchFolder scratch;
  make_run(scratch / "run");
  const std::string run = (scratch / "run").string();
  const std::string log = contents(scratch / "run/COMMIT");

  const Outcome good = call("verify " + run);
  const Outcome full = call("verify --full " + run);
  std::string block = contents(scratch / "run/out/b00000002.h5");
  block[block.size() / 2] ^= 1;
  overwrite(scratch / "run/out/b00000002.h5", block);
  std::filesystem::remove(scratch / "run/out/b00000000.h5");
  const Outcome damaged = call("verify " + run);
  overwrite(scratch / "run/COMMIT", log.substr(0, log.size() - 10));
  const Outcome torn = call("verify " + run);

  CHECK(good.code == 0);
  CHECK(contains(good.text, "3 blocks, 6 of 6 latent frames"));
  CHECK(full.code == 0);
  CHECK(contains(full.text, "latents_sha256 "));
  CHECK(damaged.code == 65);
  CHECK(contains(damaged.text, "b00000002.h5 (block 2) is damaged"));
  CHECK(contains(damaged.text, "b00000000.h5: No such file"));
  CHECK(contains(torn.text, "note: "));
  CHECK(contains(torn.text, "line 3 does not hold: it has no end; it is not a commit"));
  CHECK(contains(torn.text, "out/b00000002.h5 belongs to no commit"));
  CHECK(contents(scratch / "run/COMMIT") == log.substr(0, log.size() - 10));
}

TEST_CASE("verify --full finds numbers that are none") {
  const ScratchFolder scratch;
  OwnedTensor latents = sample_block(6, 1);
  latents.as<float>()[77] = std::numeric_limits<float>::quiet_NaN();
  LatentStore(scratch / "run", sample_identity()).append(latents);

  const Outcome quick = call("verify " + (scratch / "run").string());
  const Outcome full = call("verify --full " + (scratch / "run").string());

  CHECK(quick.code == 0);
  CHECK(full.code == 65);
  CHECK(contains(full.text, "(block 0): element 77 is nan"));
}

TEST_CASE("info shows what a run holds") {
  const ScratchFolder scratch;
  make_run(scratch / "run");

  const Outcome info = call("info " + (scratch / "run").string());

  CHECK(info.code == 0);
  CHECK(contains(info.text, "blocks      3 committed"));
  CHECK(contains(info.text, "6 of 6 frames [4, 6, 5], finished"));
  CHECK(contains(info.text, "0.75 s  ein blaues Quadrat, größer"));
  CHECK(contains(info.text, "  steps: 20"));
}

TEST_CASE("messages can be JSON") {
  const Outcome outcome = call("verify --json-log /nowhere");

  CHECK(outcome.code == 66);
  CHECK(contains(outcome.text, "\"level\":\"error\",\"message\":\"/nowhere is not a run"));
}

}  // namespace longtake
