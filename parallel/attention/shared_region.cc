#include "parallel/attention/shared_region.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace longtake {

namespace {

constexpr std::string_view kName = "longtake-pair";
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::nullopt_t cannot(std::string* why, std::string_view what) {
  if (why) *why = fmt::format("{}: {}", what, std::strerror(errno));
  return std::nullopt;
}

// "/proc/<digits>/fd/<digits>" and nothing else.
bool is_descriptor_path(const std::string& path) {
  int process = 0, descriptor = 0, end = 0;
  return std::sscanf(path.c_str(), "/proc/%9d/fd/%9d%n", &process, &descriptor, &end) == 2 &&
         path == fmt::format("/proc/{}/fd/{}", process, descriptor);
}

// Before it is opened: opening a terminal, a pipe or a device could have effects.
bool is_our_memory(const std::string& path) {
  std::array<char, 64> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view found(target.data(), static_cast<size_t>(length));
  return found.substr(0, 7 + kName.size()) == fmt::format("/memfd:{}", kName);
}

}  // namespace

void SharedRegion::Unmap::operator()(std::byte* data) const {
  (void)::munmap(data, bytes);
}

void SharedRegion::Close::operator()(const int* descriptor) const {
  (void)::close(*descriptor);
  delete descriptor;
}

std::optional<SharedRegion> SharedRegion::map(int descriptor, size_t bytes, std::string* why) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) return cannot(why, "mmap");
  SharedRegion out;
  out.data_ = {static_cast<std::byte*>(data), Unmap{bytes}};
  return out;
}

std::optional<SharedRegion> SharedRegion::create(size_t bytes, std::string* why) {
  const int descriptor = ::memfd_create(kName.data(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (descriptor < 0) return cannot(why, "memfd_create");
  std::unique_ptr<int, Close> owner(new int(descriptor));
  if (::fchmod(descriptor, 0600) != 0) return cannot(why, "fchmod");
  // Pages come when they are touched, as with any other memory: taking them now would make the
  // rank wait.
  if (::ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) return cannot(why, "ftruncate");
  if (::fcntl(descriptor, F_ADD_SEALS, kSeals) != 0) return cannot(why, "F_ADD_SEALS");
  std::optional<SharedRegion> out = map(descriptor, bytes, why);
  if (!out) return out;
  out->path_ = fmt::format("/proc/{}/fd/{}", ::getpid(), descriptor);
  out->descriptor_ = std::move(owner);
  return out;
}

std::optional<SharedRegion> SharedRegion::open(const std::string& path, size_t bytes,
                                               std::string* why) {
  errno = ENOENT;
  if (!is_descriptor_path(path) || !is_our_memory(path)) return cannot(why, path);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return cannot(why, path);
  const std::unique_ptr<int, Close> owner(new int(descriptor));
  struct stat found {};
  if (::fstat(descriptor, &found) != 0) return cannot(why, "fstat");
  const int seals = ::fcntl(descriptor, F_GET_SEALS);
  errno = EINVAL;
  if (seals < 0 || (seals & kSeals) != kSeals || found.st_uid != ::geteuid() ||
      static_cast<uint64_t>(found.st_size) != bytes)
    return cannot(why, path);
  return map(descriptor, bytes, why);
}

void SharedRegion::close_path() {
  descriptor_.reset();
  path_.clear();
}

}  // namespace longtake
