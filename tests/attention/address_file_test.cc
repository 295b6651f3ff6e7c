// RUN/workers.addr: private, whole or not there, errors by line.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/attention/door.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

const std::string kTokenLine = "token " + std::string(64, 'a') + "\n";

struct Written {
  ScratchFolder folder;
  std::filesystem::path path = folder / "workers.addr";

  explicit Written(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path) << text;
    REQUIRE(::chmod(path.c_str(), mode) == 0);
  }
  Error error() const {
    const Error out = error_of([&] { (void)read_address_file(path); });
    CHECK(mentions(out, path.string()));
    return out;
  }
};

Error error_for(const std::string& text) {
  const Written file(text);
  const Error out = file.error();
  CHECK(out.code() == ExitCode::bad_data);
  return out;
}

mode_t mode_of(const std::filesystem::path& path) {
  struct stat found {};
  REQUIRE(::stat(path.c_str(), &found) == 0);
  return found.st_mode & 07777;
}

}  // namespace

TEST_CASE("an address file comes back, replaces the one before and is the owner's alone") {
  const ScratchFolder folder;
  const auto path = folder / "workers.addr";
  std::ofstream(folder / ".tmp.workers.addr") << "left by a run that was killed";
  AddressFile addresses{random_token(), {{0, "node7", 1}, {1, "fe80::1%eth0", 65535}}};

  for (const uint16_t port : {uint16_t{1}, uint16_t{4711}}) {
    addresses.ranks[0].port = port;
    write_address_file(path, addresses);
    const AddressFile found = read_address_file(path);

    CHECK(found.token == addresses.token);
    REQUIRE(found.ranks.size() == 2);
    CHECK(found.ranks[0].rank == 0);
    CHECK(found.ranks[0].host == "node7");
    CHECK(found.ranks[0].port == port);
    CHECK(found.ranks[1].rank == 1);
    CHECK(found.ranks[1].host == "fe80::1%eth0");
    CHECK(found.ranks[1].port == 65535);
    CHECK(mode_of(path) == 0600);
  }
  CHECK_FALSE(std::filesystem::exists(folder / ".tmp.workers.addr"));
}

TEST_CASE("tokens are drawn anew") {
  CHECK(random_token() != random_token());
}

TEST_CASE("a file that others may read is refused, whatever they may do") {
  for (const mode_t mode : {0640, 0604, 0620, 0601}) {
    const Written file(kTokenLine + "rank 0 node7 1\n", mode);
    CHECK(mentions(file.error(),
                   fmt::format("expected mode 0600 (it holds a secret), found {:04o}", mode)));
  }
}

TEST_CASE("missing files, folders and links are refused") {
  const ScratchFolder folder;
  const Error missing = error_of([&] { (void)read_address_file(folder / "none"); });
  CHECK(missing.code() == ExitCode::missing_input);
  CHECK(mentions(missing, "No such file"));
  REQUIRE(::chmod(folder.path().c_str(), 0700) == 0);
  CHECK(mentions(error_of([&] { (void)read_address_file(folder.path()); }),
                 "expected a regular file"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(mentions(error_of([&] { (void)read_address_file(folder / "pipe"); }),
                 "expected a regular file"));
  write_address_file(folder / "real", {random_token(), {{0, "h", 1}}});
  std::filesystem::create_symlink(folder / "real", folder / "link");
  CHECK_THROWS_AS((void)read_address_file(folder / "link"), Error);
  const Error nowhere = error_of([&] {
    write_address_file(folder / "no" / "where", {{}, {{0, "h", 1}}});
  });
  CHECK(nowhere.code() == ExitCode::cannot_create);
}

TEST_CASE("malformed lines are refused by their number") {
  const std::string good = kTokenLine + "rank 0 node7 4711\n";
  CHECK(mentions(error_for(""), "line 1: expected a token, found the end"));
  CHECK(mentions(error_for(kTokenLine), "line 2: expected a rank, found the end"));
  CHECK(mentions(error_for("tokem " + std::string(64, 'a') + "\n"),
                 "line 1: expected `token`, found `tokem`"));
  CHECK(mentions(error_for("token abc\n"),
                 "line 1: token: expected 64 hexadecimal digits, found 3 characters"));
  const Error secret = error_for("token " + std::string(63, 'a') + "x\n");
  CHECK(mentions(secret, "line 1: token: expected hexadecimal digits, found something else at 62"));
  CHECK(std::string(secret.what()).find("aaaa") == std::string::npos);
  CHECK(mentions(error_for("token " + std::string(64, 'a') + " x\n"), "line 1: expected its end"));
  CHECK(mentions(error_for(good + "rank 2 node8 1\n"), "line 3: rank: expected 1 to 1, found `2`"));
  CHECK(mentions(error_for(good + "rank 1 node8 0\n"), "line 3: port: expected 1 to 65535"));
  CHECK(mentions(error_for(good + "rank 1 node8 65536\n"), "found `65536`"));
  CHECK(mentions(error_for(good + "rank 1 node8 12x\n"), "found `12x`"));
  CHECK(
      mentions(error_for(good + "rank 1 node8\n"), "line 3: port: expected 1 to 65535, found ``"));
  CHECK(mentions(error_for(good + "rank 1  1\n"), "line 3: host: expected 1 to 255"));
  CHECK(mentions(error_for(good + "rank 1 no\tde 1\n"), "line 3: host:"));
  CHECK(mentions(error_for(good + "rank 1 node8 1 1\n"), "line 3: expected its end, found `1`"));
  CHECK(mentions(error_for(good + "\n"), "line 3: expected `rank`, found ``"));
  CHECK(mentions(error_for(good + "rank 1 node8 1"), "line 3: expected a whole line"));
  CHECK(mentions(error_for(kTokenLine + std::string(2 << 20, 'x')), "expected at most 1048576"));
}

}  // namespace longtake
