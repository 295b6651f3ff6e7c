// One .safetensors file: a header of names, types, shapes and offsets, then the data. The header is
// checked completely (no overlap, no hole, nothing behind the last tensor) before anything is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/shape.h"

namespace longtake {

struct SafetensorsEntry {
  std::string name;
  std::string type;            // as the file says: "F32", "F8_E4M3"
  std::optional<DType> dtype;  // empty for types without a DType
  Shape shape;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

// The header's entries in the order of their data. `head` is the beginning of a file of
// `file_bytes` bytes, at least its first 8 + N bytes where that is possible. `where` names the file
// in messages.
std::vector<SafetensorsEntry> parse_safetensors(std::span<const std::byte> head,
                                                uint64_t file_bytes, const std::string& where);

// An open file. Reading is safe from several threads at once.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }

  // Bytes [begin, begin + bytes) of an entry's data.
  void read(const SafetensorsEntry& entry, uint64_t begin, uint64_t bytes, void* to) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace longtake
