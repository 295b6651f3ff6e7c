// Memory that two unrelated processes of one user on one host share: a memfd, found by the other
// through /proc. It has no name that could be left behind, does not count against /dev/shm, and is
// sealed, so that neither end can cut it short under the other.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace longtake {

class SharedRegion {
 public:
  // Nothing where this machine cannot, for whatever reason: the pair uses sockets then. `why` says.
  static std::optional<SharedRegion> create(size_t bytes, std::string* why = nullptr);
  // `path` comes from the other end: only a sealed memory file of ours and of that size is mapped.
  static std::optional<SharedRegion> open(const std::string& path, size_t bytes,
                                          std::string* why = nullptr);

  std::byte* data() const { return data_.get(); }
  size_t bytes() const { return data_.get_deleter().bytes; }
  // For open(); empty once close_path() was called or when it was opened.
  const std::string& path() const { return path_; }
  void close_path();

 private:
  struct Unmap {
    size_t bytes;
    void operator()(std::byte* data) const;
  };
  struct Close {
    void operator()(const int* descriptor) const;
  };
  static std::optional<SharedRegion> map(int descriptor, size_t bytes, std::string* why);

  std::unique_ptr<std::byte, Unmap> data_;
  std::unique_ptr<int, Close> descriptor_;
  std::string path_;
};

}  // namespace longtake
