// Shared memory between two ends: only what a rank made for it is mapped, whatever path comes.
#include "parallel/attention/shared_region.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "tests/support/scratch_folder.h"

namespace longtake {

namespace {

constexpr size_t kSize = 8192;

std::string path_of(int descriptor) {
  return fmt::format("/proc/{}/fd/{}", ::getpid(), descriptor);
}

bool opens(const std::string& path, size_t bytes = kSize) {
  std::string why;
  const bool opened = SharedRegion::open(path, bytes, &why).has_value();
  CHECK(opened == why.empty());
  return opened;
}

}  // namespace

TEST_CASE("both ends see the same bytes, also after the path is closed") {
  std::optional<SharedRegion> here = SharedRegion::create(kSize);
  REQUIRE(here);
  CHECK(here->bytes() == kSize);
  std::optional<SharedRegion> there = SharedRegion::open(here->path(), kSize);
  REQUIRE(there);
  const std::string path = here->path();

  here->close_path();
  std::strcpy(reinterpret_cast<char*>(here->data()) + 5000, "over");
  there->data()[0] = std::byte{9};

  CHECK(std::strcmp(reinterpret_cast<char*>(there->data()) + 5000, "over") == 0);
  CHECK(here->data()[0] == std::byte{9});
  CHECK(there->path().empty());
  CHECK_FALSE(opens(path));
}

TEST_CASE("another size, another file, an unsealed one or another path is not mapped") {
  const std::optional<SharedRegion> region = SharedRegion::create(kSize);
  REQUIRE(region);
  CHECK(opens(region->path()));
  CHECK_FALSE(opens(region->path(), kSize / 2));
  CHECK_FALSE(opens(region->path(), 2 * kSize));

  // Right in everything but its seals, its name or the way to it.
  const int unsealed = ::memfd_create("longtake-pair", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  REQUIRE(::ftruncate(unsealed, kSize) == 0);
  CHECK_FALSE(opens(path_of(unsealed)));
  REQUIRE(::fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  CHECK(opens(path_of(unsealed)));
  CHECK_FALSE(opens("/proc/self/fd/" + std::to_string(unsealed)));
  CHECK_FALSE(opens(path_of(unsealed) + "/"));
  CHECK_FALSE(opens("/proc/1/../" + path_of(unsealed).substr(6)));
  const int other = ::memfd_create("somebody", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  REQUIRE(::ftruncate(other, kSize) == 0);
  REQUIRE(::fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  CHECK_FALSE(opens(path_of(other)));
  for (const int descriptor : {unsealed, other}) (void)::close(descriptor);
}

TEST_CASE("what cannot be had is told and no error") {
  std::string why;
  CHECK_FALSE(SharedRegion::create(size_t{1} << 60, &why));
  CHECK_FALSE(why.empty());
  CHECK_FALSE(opens(""));
  CHECK_FALSE(opens("/proc/999999999/fd/3"));
}

}  // namespace longtake
