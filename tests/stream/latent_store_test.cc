#include "runtime/stream/latent_store.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

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

bool equal(const OwnedTensor& a, const OwnedTensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.as<float>(), b.as<float>(), a.bytes()) == 0;
}

int temporary_files(const fs::path& run) {
  int n = 0;
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    n += entry.path().filename().string().starts_with(".tmp.");
  }
  return n;
}

// Runs `action` in a process of its own that may write files of at most `bytes` bytes: a full disk
// that comes at a chosen byte. As in the program, nothing runs after the error: libhdf5 keeps what
// it could not write. Returns the text of the error and the exit code.
template <class Action>
std::pair<std::string, int> with_full_disk(rlim_t bytes, Action&& action) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      action();
    } catch (const Error& e) {
      const std::string text = e.what();
      _exit(write(ends[1], text.data(), text.size()) > 0 ? static_cast<int>(e.code()) : 1);
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string text(4096, ' ');
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, read(ends[0], text.data(), text.size()))));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return {text, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status)};
}

}  // namespace

TEST_CASE("blocks come back as they were appended") {
  const ScratchFolder scratch;
  LatentStore store(scratch / "run", sample_identity());

  fill(store);

  CHECK(store.complete());
  const LatentReader reader(scratch / "run");
  REQUIRE(reader.blocks().size() == 3);
  CHECK(reader.complete());
  CHECK(equal(reader.read(0), sample_block(2, 1)));
  CHECK(equal(reader.read(1), sample_block(3, 2)));
  CHECK(equal(reader.read(2), sample_block(1, 3)));
  CHECK(reader.blocks()[2].first_frame == 5);
  CHECK(temporary_files(scratch / "run") == 0);
}

TEST_CASE("a reader sees each block as soon as it is committed") {
  const ScratchFolder scratch;
  LatentStore store(scratch / "run", sample_identity());
  LatentReader reader(scratch / "run");
  CHECK(reader.blocks().empty());

  store.append(sample_block(2, 1));
  reader.refresh();

  CHECK(reader.frames() == 2);
  CHECK_FALSE(reader.complete());
  CHECK(equal(reader.read(0), sample_block(2, 1)));
}

TEST_CASE("latents_sha256 is the hash of the numbers, however they are cut into blocks") {
  const ScratchFolder scratch;
  LatentStore three(scratch / "three", sample_identity());
  LatentStore one(scratch / "one", sample_identity());
  OwnedTensor all(DType::f32, {6, 4, 6, 5});
  const OwnedTensor a = sample_block(2, 1), b = sample_block(3, 2), c = sample_block(1, 3);
  std::memcpy(all.as<float>(), a.as<float>(), a.bytes());
  std::memcpy(all.as<float>() + a.numel(), b.as<float>(), b.bytes());
  std::memcpy(all.as<float>() + a.numel() + b.numel(), c.as<float>(), c.bytes());

  fill(three);
  one.append(all);

  const std::string expected =
      sha256_hex({reinterpret_cast<const char*>(all.as<float>()), all.bytes()});
  CHECK(three.latents_sha256() == expected);
  CHECK(one.latents_sha256() == expected);
  CHECK(LatentReader(scratch / "three").latents_sha256() == expected);
}

TEST_CASE("equal latents give equal block files, whenever they are written") {
  const ScratchFolder scratch;
  LatentStore a(scratch / "a", sample_identity());
  LatentStore b(scratch / "b", sample_identity());

  fill(a);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 counts times in seconds
  fill(b);

  CHECK(contents(scratch / "a/out/b00000001.h5") == contents(scratch / "b/out/b00000001.h5"));
}

TEST_CASE("the folder is private") {
  const ScratchFolder scratch;
  const LatentStore store(scratch / "run", sample_identity());

  struct stat status {};
  REQUIRE(stat((scratch / "run").c_str(), &status) == 0);

  CHECK((status.st_mode & 0777) == 0700);
}

TEST_CASE("an incomplete run is continued, a finished or different one is not") {
  const ScratchFolder scratch;
  std::string uuid, hash;
  {
    LatentStore store(scratch / "run", sample_identity());
    uuid = store.identity().uuid;
    store.append(sample_block(2, 1));
    store.append(sample_block(3, 2));
  }

  RunIdentity other = sample_identity();
  other.fingerprint = "model: tiny\nsteps: 16\n";
  const Error different = error_of([&] { LatentStore store(scratch / "run", other); });
  {
    LatentStore store(scratch / "run", sample_identity());
    REQUIRE(store.committed_blocks().size() == 2);
    CHECK(store.identity().uuid == uuid);
    CHECK(store.notice().empty());
    store.append(sample_block(1, 3));
    hash = store.latents_sha256();
  }
  const int64_t unreported = LatentStore(scratch / "run", sample_identity()).committed_frames();
  overwrite(scratch / "run/report.json", "{}");
  const Error finished = error_of([&] { LatentStore store(scratch / "run", sample_identity()); });

  CHECK(unreported == 6);
  CHECK(different.code() == ExitCode::cannot_create);
  CHECK(mentions(different, "`steps: 20` in the run, `steps: 16` now"));
  CHECK(finished.code() == ExitCode::cannot_create);
  CHECK(mentions(finished, "finished run"));
  const LatentReader reader(scratch / "run");
  CHECK(reader.latents_sha256() == hash);
  CHECK(reader.log().records.back().epoch == 2);
}

TEST_CASE("the state before is used when the newest is damaged, and both are told") {
  const ScratchFolder scratch;
  {
    LatentStore store(scratch / "run", sample_identity());
    for (const int64_t sweep : {3, 5}) {
      store.append(sample_block(2, static_cast<uint64_t>(sweep)));
      const OwnedTensor data = sample_block(1, 9);
      const std::string name = state_file_name(store.epoch(), sweep, 0);
      write_state_file(scratch / "run" / name, {sweep, {{"part", data, 0, nullptr}}});
      const std::string bytes = contents(scratch / "run" / name);
      store.append_state({sweep, {{name, bytes.size(), sha256_hex(bytes)}}});
    }
  }
  const int64_t newest = LatentStore(scratch / "run", sample_identity()).resume_state()->sweep;
  const auto file = scratch / "run/state/e0001.s00000005.r0000.h5";
  std::string bytes = contents(file);
  bytes[bytes.size() / 2] ^= 1;
  overwrite(file, bytes);

  const VerifyReport report = verify_run(scratch / "run", false);
  const LatentStore store(scratch / "run", sample_identity());

  CHECK(newest == 5);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].find("the state before sweep 5: state/e0001.s00000005.r0000.h5") == 0);
  REQUIRE(store.resume_state());
  CHECK(store.resume_state()->sweep == 3);
  CHECK(store.notice().find("the state before sweep 5 is lost: state/e0001") == 0);
  CHECK(store.notice().find("going on from the state before sweep 3") != std::string::npos);
}

TEST_CASE("a run without a commit does not stand in the way of another") {
  const ScratchFolder scratch;
  RunIdentity other = sample_identity();
  other.fingerprint = "model: tiny\nsteps: 16\n";
  { LatentStore store(scratch / "run", sample_identity()); }
  overwrite(scratch / "run/COMMIT", "{\"seq\":1,");  // torn

  {
    LatentStore store(scratch / "run", other);
    store.append(sample_block(2, 1));
  }

  const LatentReader reader(scratch / "run");
  CHECK(reader.identity().fingerprint == other.fingerprint);
  CHECK(reader.blocks().size() == 1);
  CHECK(reader.log().problem.empty());
  const Error back = error_of([&] { LatentStore store(scratch / "run", sample_identity()); });
  CHECK(back.code() == ExitCode::cannot_create);
}

TEST_CASE("a second writer is refused and told who the first is") {
  const ScratchFolder scratch;
  LatentStore first(scratch / "run", sample_identity());

  const Error error = error_of([&] { LatentStore second(scratch / "run", sample_identity()); });
  first.close();
  const LatentStore third(scratch / "run", sample_identity());

  CHECK(error.code() == ExitCode::cannot_create);
  CHECK(mentions(error, "is being written by another process"));
  CHECK(mentions(error, fmt::format("process {}", getpid())));
}

TEST_CASE("a folder with other things in it is left alone") {
  const ScratchFolder scratch;
  fs::create_directory(scratch / "mine");
  overwrite(scratch / "mine/thesis.tex", "text");
  overwrite(scratch / "file", "text");

  const Error foreign = error_of([&] { LatentStore store(scratch / "mine", sample_identity()); });
  const Error file = error_of([&] { LatentStore store(scratch / "file", sample_identity()); });
  const Error below = error_of([&] { LatentStore store(scratch / "file/run", sample_identity()); });

  CHECK(foreign.code() == ExitCode::cannot_create);
  CHECK(mentions(foreign, "holds thesis.tex"));
  CHECK(file.code() == ExitCode::cannot_create);
  CHECK(below.code() == ExitCode::cannot_create);
  CHECK_FALSE(fs::exists(scratch / "mine/LOCK"));
}

TEST_CASE("leftovers of a killed writer are swept") {
  const ScratchFolder scratch;
  { LatentStore store(scratch / "run", sample_identity()); }
  overwrite(scratch / "run/out/.tmp.b00000000.h5", "half");
  overwrite(scratch / "run/out/b00000000.h5", "published but not committed");

  LatentStore store(scratch / "run", sample_identity());
  store.append(sample_block(2, 1));

  CHECK(temporary_files(scratch / "run") == 0);
  CHECK(equal(LatentReader(scratch / "run").read(0), sample_block(2, 1)));
}

TEST_CASE("a full disk loses nothing that was committed and leaves nothing half-written") {
  const OwnedTensor large = random_tensor({3, 64, 32, 32}, 5);  // 786432 bytes
  RunIdentity identity = sample_identity();
  identity.channels = 64, identity.height = 32, identity.width = 32;
  // Points in the header, the data and the last bytes of the block file.
  for (const rlim_t limit : {rlim_t{3000}, rlim_t{300'000}, rlim_t{786'500}}) {
    CAPTURE(limit);
    const ScratchFolder scratch;
    {
      LatentStore store(scratch / "run", identity);
      store.append(random_tensor({1, 64, 32, 32}, 4));
    }
    const std::string log = contents(scratch / "run/COMMIT");

    const auto [text, code] = with_full_disk(limit, [&] {
      LatentStore store(scratch / "run", identity);
      store.append(large);
    });

    CHECK(code == static_cast<int>(ExitCode::io));
    CHECK(text.find("File too large") != std::string::npos);
    CHECK(contents(scratch / "run/COMMIT") == log);
    CHECK(temporary_files(scratch / "run") == 0);
    CHECK_FALSE(fs::exists(scratch / "run/out/b00000001.h5"));
    LatentStore next(scratch / "run", identity);
    next.append(large);
    CHECK(equal(LatentReader(scratch / "run").read(1), large));
  }
}

TEST_CASE("after a failure the store takes nothing more") {
  const ScratchFolder scratch;
  LatentStore store(scratch / "run", sample_identity());
  fs::remove(scratch / "run/out");

  const Error error = error_of([&] { store.append(sample_block(2, 1)); });
  fs::create_directory(scratch / "run/out");
  const Error again = error_of([&] { store.append(sample_block(2, 1)); });

  CHECK(error.code() == ExitCode::cannot_create);
  CHECK(mentions(error, "No such file or directory"));
  CHECK(mentions(again, "failed before"));
}

TEST_CASE("a block of the wrong shape is refused") {
  const ScratchFolder scratch;
  LatentStore store(scratch / "run", sample_identity());

  CHECK_THROWS_AS(store.append(random_tensor({2, 4, 5, 6}, 1)), Error);
  CHECK_THROWS_AS(store.append(sample_block(7, 1)), Error);
  store.append(sample_block(6, 1));

  CHECK(store.complete());
}

}  // namespace longtake
