// The writer between denoising and the run folder, without pictures: order, errors, continued runs.
#include "runtime/stream/stream_writer.h"

#include <doctest/doctest.h>

#include "runtime/stream/block_file.h"
#include "runtime/stream/latent_reader.h"
#include "tests/stream/sample_run.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

using Mode = StreamWriter::Mode;

// As the model makes it: [channels, frames, h, w].
OwnedTensor made_block(int64_t frames, uint64_t seed) {
  return random_tensor({4, frames, 6, 5}, seed);
}

void push_all(LatentStore& store, Mode mode, uint64_t seed_of_first = 1) {
  ThreadPool pool(1);
  StreamWriter writer(store, nullptr, mode, pool);
  writer.push(made_block(2, seed_of_first));
  writer.push(made_block(3, 2));
  writer.push(made_block(1, 3));
  writer.finish();
  CHECK(writer.blocks() == 3);
}

std::string hash_of_run(const std::filesystem::path& run, Mode mode) {
  LatentStore store(run, sample_identity());
  push_all(store, mode);
  return store.latents_sha256();
}

}  // namespace

TEST_CASE("blocks are stored in order, time first, by the caller or beside it") {
  const ScratchFolder scratch;

  const std::string caller = hash_of_run(scratch / "a", Mode::caller);
  const std::string background = hash_of_run(scratch / "b", Mode::background);

  CHECK(caller == background);
  const OwnedTensor stored = LatentReader(scratch / "a").read(1), block = made_block(3, 2);
  REQUIRE(stored.shape() == Shape{3, 4, 6, 5});
  for (int64_t c = 0; c < 4; ++c)
    for (int64_t t = 0; t < 3; ++t)
      for (int64_t i = 0; i < 30; ++i)
        CHECK(stored.as<float>()[(t * 4 + c) * 30 + i] == block.as<float>()[(c * 3 + t) * 30 + i]);
}

TEST_CASE("a continued run keeps the committed blocks and ends with the same latents") {
  for (const Mode mode : {Mode::caller, Mode::background}) {
    const ScratchFolder scratch;
    const std::string whole = hash_of_run(scratch / "whole", mode);
    {
      LatentStore store(scratch / "run", sample_identity());
      store.append(time_first(made_block(2, 1)));
      store.append(time_first(made_block(3, 2)));
    }
    const std::string kept = contents(scratch / "run/out/b00000001.h5");

    CHECK(hash_of_run(scratch / "run", mode) == whole);

    CHECK(contents(scratch / "run/out/b00000001.h5") == kept);
    CHECK(LatentReader(scratch / "run").blocks().size() == 3);
    CHECK(LatentReader(scratch / "run").latents_sha256() == whole);
  }
}

TEST_CASE("a continued run that makes other numbers is stopped") {
  for (const Mode mode : {Mode::caller, Mode::background}) {
    const ScratchFolder scratch;
    {
      LatentStore store(scratch / "run", sample_identity());
      store.append(time_first(made_block(2, 1)));
    }
    const std::string log = contents(scratch / "run/COMMIT");

    const Error error = error_of([&] {
      LatentStore store(scratch / "run", sample_identity());
      push_all(store, mode, 99);
    });

    CHECK(error.code() == ExitCode::bad_data);
    CHECK(mentions(error, "b00000000.h5 (block 0) was committed with other numbers"));
    CHECK(contents(scratch / "run/COMMIT") == log);
  }
}

TEST_CASE("an error of the store comes back from the background") {
  const ScratchFolder scratch;
  LatentStore store(scratch / "run", sample_identity());
  std::filesystem::remove(scratch / "run/out");

  const Error error = error_of([&] { push_all(store, Mode::background); });

  CHECK(error.code() == ExitCode::cannot_create);
}

}  // namespace longtake
