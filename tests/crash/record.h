// What the shim writes down of a run's file calls, one record after the other, and what the
// replayer reads: RecordHead, then `path`, `target` and `bytes` of data.
#pragma once

#include <cstdint>

namespace longtake::crash {

enum class Call : uint32_t {
  create,    // open that made the file
  write,     // `bytes` of data at `offset`
  truncate,  // to `offset` bytes
  rename,    // path to target
  unlink,
  mkdir,
  sync,         // fsync of a file
  sync_data,    // fdatasync
  sync_folder,  // fsync of a folder
  close,
};

inline constexpr const char* kCallNames[] = {"create",      "write", "truncate", "rename",
                                             "unlink",      "mkdir", "sync",     "sync_data",
                                             "sync_folder", "close"};

struct RecordHead {
  Call call{};
  uint32_t path_bytes = 0, target_bytes = 0;
  uint64_t offset = 0, bytes = 0;
};

}  // namespace longtake::crash
