// Files whose contents must survive a crash: every return value is checked, and an error of write,
// fsync, close or rename is final (after a failed fsync Linux marks the pages clean: retrying would
// lie).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "kernels/base/error.h"

namespace longtake {

// Fails with "cannot <action> <path>: <text of errno>".
[[noreturn]] void fail_errno(ExitCode code, std::string_view action,
                             const std::filesystem::path& path);

// Owner of a file descriptor and the name it was opened under.
class OpenFile {
 public:
  // O_CLOEXEC is added, and O_NOFOLLOW when the file may be made. Fails with `code`.
  OpenFile(const std::filesystem::path& path, int flags, ExitCode code, mode_t mode = 0600);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int descriptor() const { return descriptor_; }
  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const;
  void write(std::string_view bytes);      // with one write(2); a short one is an error
  void write_all(std::string_view bytes);  // with as many as it takes
  void sync();                             // fsync
  void sync_data();                        // fdatasync
  void truncate(uint64_t bytes);
  void close();

 private:
  std::filesystem::path path_;
  int descriptor_;
};

struct FileDigest {
  uint64_t bytes = 0;
  std::string sha256;
};

FileDigest digest(const OpenFile& file);
// The whole file; one that is longer than `limit` bytes is bad data.
std::string read_file(const std::filesystem::path& path, uint64_t limit);

// Fails with ExitCode::io unless the file system of `folder` has room for twice these bytes.
void check_free_space(const std::filesystem::path& folder, uint64_t bytes);

void sync_directory(const std::filesystem::path& folder);
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);
// fsync, rename to the final name, fsync of the folder: what is written appears whole or not at
// all.
void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path);
// The same for contents in memory.
void replace_file(const std::filesystem::path& path, std::string_view contents);

// "<folder>/.tmp.<name>": never read by anybody, swept when the run is opened.
std::filesystem::path temporary_name(const std::filesystem::path& path);
inline constexpr std::string_view kTemporaryPrefix = ".tmp.";

// Removes a temporary file unless it was published.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& final_path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void publish();  // see publish_file

 private:
  std::filesystem::path final_, path_;
};

}  // namespace longtake
