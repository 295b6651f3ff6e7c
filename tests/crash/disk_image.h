// What a disk may hold after the power was cut: the recorded calls of a run are played onto a model
// of a file system that promises only what fsync promises. Data that was not synced may be there,
// be old, be zeros or be missing, in sectors; entries of folders that were not synced may be there
// or not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/crash/record.h"

namespace longtake::crash {

struct Recorded {
  Call call{};
  std::string path, target, data;
  uint64_t offset = 0;
};

// Paths become relative to `folder`.
std::vector<Recorded> read_record(const std::filesystem::path& record,
                                  const std::filesystem::path& folder);

enum class Ignored { nothing, file, folder, log };

class Disk {
 public:
  explicit Disk(Ignored ignored) : ignored_(ignored) {}

  void play(const Recorded& call);
  // Commits whose fdatasync came back.
  long reported() const { return reported_; }
  // One of the folders that may be found now; `to` must not exist.
  void write_image(const std::filesystem::path& to, std::mt19937& random) const;

 private:
  struct Change {  // of a file's bytes that is not synced
    bool truncates = false;
    uint64_t offset = 0;
    std::string data;
  };
  struct File {
    std::string synced;
    std::vector<Change> changes;
  };
  using FilePtr = std::shared_ptr<File>;
  struct Entry {  // a change of a folder that is not synced
    Call call{};
    std::string path, target;
    FilePtr file;
  };
  struct Tree {
    std::map<std::string, FilePtr> files;  // null: a folder
    void apply(const Entry& entry);
  };

  void change_entry(const Entry& entry);
  void sync_folder(const std::string& folder);
  static void sync(File& file);
  static std::string some_bytes(const File& file, std::mt19937& random);
  Tree some_tree(std::mt19937& random) const;

  Ignored ignored_;
  Tree now_, synced_;
  std::vector<Entry> entries_;
  long reported_ = 0;
};

}  // namespace longtake::crash
