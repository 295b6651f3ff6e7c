#include "runtime/stream/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "runtime/stream/sha256.h"

namespace longtake {

namespace fs = std::filesystem;

void fail_errno(ExitCode code, std::string_view action, const fs::path& path) {
  const int error = errno;
  fail(code, "cannot {} {}: {}", action, path.string(), std::strerror(error));
}

OpenFile::OpenFile(const fs::path& path, int flags, ExitCode code, mode_t mode)
    : path_(path),
      descriptor_(
          ::open(path.c_str(), flags | O_CLOEXEC | ((flags & O_CREAT) ? O_NOFOLLOW : 0), mode)) {
  if (descriptor_ < 0) fail_errno(code, (flags & O_CREAT) ? "create" : "open", path);
}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

uint64_t OpenFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_errno(ExitCode::io, "inspect", path_);
  if (!S_ISREG(status.st_mode))
    fail(ExitCode::bad_data, "{} is not a regular file", path_.string());
  return static_cast<uint64_t>(status.st_size);
}

void OpenFile::write(std::string_view bytes) {
  const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
  if (n < 0) fail_errno(ExitCode::io, "write", path_);
  if (static_cast<size_t>(n) != bytes.size()) {
    fail(ExitCode::io, "cannot write {}: {} of {} bytes were taken", path_.string(), n,
         bytes.size());
  }
}

void OpenFile::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_errno(ExitCode::io, "write", path_);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void OpenFile::sync() {
  if (::fsync(descriptor_) != 0) fail_errno(ExitCode::io, "fsync", path_);
}

void OpenFile::sync_data() {
  if (::fdatasync(descriptor_) != 0) fail_errno(ExitCode::io, "fdatasync", path_);
}

void OpenFile::truncate(uint64_t bytes) {
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) {
    fail_errno(ExitCode::io, "truncate", path_);
  }
}

void OpenFile::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  if (descriptor >= 0 && ::close(descriptor) != 0) fail_errno(ExitCode::io, "close", path_);
}

FileDigest digest(const OpenFile& file) {
  Sha256 hash;
  std::vector<char> buffer(size_t{1} << 20);
  FileDigest out;
  for (;;) {
    const ssize_t n =
        ::pread(file.descriptor(), buffer.data(), buffer.size(), static_cast<off_t>(out.bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(ExitCode::io, "read", file.path());
    if (n == 0) break;
    hash.update(buffer.data(), static_cast<size_t>(n));
    out.bytes += static_cast<uint64_t>(n);
  }
  out.sha256 = hash.hex();
  return out;
}

std::string read_file(const fs::path& path, uint64_t limit) {
  const OpenFile file(path, O_RDONLY, ExitCode::missing_input);
  if (file.size() > limit) {
    fail(ExitCode::bad_data, "{} holds {} bytes, expected at most {}", path.string(), file.size(),
         limit);
  }
  std::string out;
  std::vector<char> buffer(size_t{1} << 16);
  while (out.size() <= limit) {
    const ssize_t n = ::read(file.descriptor(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(ExitCode::io, "read", path);
    if (n == 0) break;
    out.append(buffer.data(), static_cast<size_t>(n));
  }
  return out;
}

void check_free_space(const std::filesystem::path& folder, uint64_t bytes) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) fail_errno(ExitCode::io, "inspect", folder);
  const uint64_t free_bytes = static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
  if (free_bytes < 2 * bytes)
    fail(ExitCode::io, "disk full: the next commit needs {} bytes, {} has {} left", 2 * bytes,
         folder.string(), free_bytes);
}

void sync_directory(const fs::path& folder) {
  const fs::path path = folder.empty() ? fs::path(".") : folder;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_errno(ExitCode::io, "open folder", path);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (result != 0) fail_errno(ExitCode::io, "fsync folder", path);
}

void rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_errno(ExitCode::io, "rename a file to", to);
}

void publish_file(const fs::path& temporary, const fs::path& path) {
  OpenFile file(temporary, O_RDONLY, ExitCode::io);
  file.sync();
  file.close();
  rename_file(temporary, path);
  sync_directory(path.parent_path());
}

fs::path temporary_name(const fs::path& path) {
  return path.parent_path() / (std::string(kTemporaryPrefix) + path.filename().string());
}

void replace_file(const fs::path& path, std::string_view contents) {
  TemporaryFile temporary(path);
  OpenFile file(temporary.path(), O_WRONLY | O_CREAT | O_TRUNC, ExitCode::cannot_create);
  file.write_all(contents);
  file.close();
  temporary.publish();
}

TemporaryFile::TemporaryFile(const fs::path& final_path)
    : final_(final_path), path_(temporary_name(final_path)) {}

TemporaryFile::~TemporaryFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

void TemporaryFile::publish() {
  publish_file(path_, final_);
  path_.clear();
}

}  // namespace longtake
