// The commands that read a run folder.
#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "runtime/stream/latent_store.h"
#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"
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

TEST_CASE("verify finds a good run good and a damaged one damaged, and changes nothing") {
  const ScratchFolder scratch;
  const std::filesystem::path folder = scratch / "run";
  make_run(folder);
  const std::string log = contents(folder / "COMMIT");

  const Outcome good = run({"verify", folder});
  const Outcome full = run({"verify", "--full", folder});
  std::string block = contents(folder / "out/b00000002.h5");
  block[block.size() / 2] ^= 1;
  overwrite(folder / "out/b00000002.h5", block);
  std::filesystem::remove(folder / "out/b00000000.h5");
  const Outcome damaged = run({"verify", folder});
  overwrite(folder / "COMMIT", log.substr(0, log.size() - 10));
  const Outcome torn = run({"verify", folder});

  CHECK(good.code == 0);
  check_mentions(good.out, "3 blocks, 6 of 6 latent frames");
  CHECK(full.code == 0);
  check_mentions(full.out, "latents_sha256 ");
  CHECK(damaged.code == 65);
  const std::string found = damaged.out + damaged.err;
  check_mentions(found, "b00000002.h5 (block 2) is damaged");
  check_mentions(found, "b00000000.h5: No such file");
  const std::string notes = torn.out + torn.err;
  check_mentions(notes, "note: ");
  check_mentions(notes, "line 3 does not hold: it has no end; it is not a commit");
  check_mentions(notes, "out/b00000002.h5 belongs to no commit");
  CHECK(contents(folder / "COMMIT") == log.substr(0, log.size() - 10));
}

TEST_CASE("verify --full finds numbers that are none") {
  const ScratchFolder scratch;
  OwnedTensor latents = sample_block(6, 1);
  latents.as<float>()[77] = std::numeric_limits<float>::quiet_NaN();
  LatentStore(scratch / "run", sample_identity()).append(latents);

  const Outcome quick = run({"verify", scratch / "run"});
  const Outcome full = run({"verify", "--full", scratch / "run"});

  CHECK(quick.code == 0);
  CHECK(full.code == 65);
  check_mentions(full.out + full.err, "(block 0): element 77 is nan");
}

TEST_CASE("info shows what a run and a model hold") {
  const ScratchFolder scratch;
  make_run(scratch / "run");

  const Outcome info = run({"info", scratch / "run"});
  const Outcome model = run({"info", demo_configs() / "model"});

  CHECK(info.code == 0);
  for (const char* part : {"blocks      3 committed", "6 of 6 frames [4, 6, 5], finished",
                           "0.75 s  ein blaues Quadrat, größer", "  steps: 20"})
    check_mentions(info.out, part);
  CHECK(model.code == 0);
  check_mentions(model.out, "Wan2.1 T2V");
  check_mentions(model.out, "8 layers, dim 192, 3 heads of 64, ffn 640");
}

}  // namespace longtake
