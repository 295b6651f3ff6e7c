#include "tests/crash/disk_image.h"

#include <algorithm>
#include <fstream>

#include "kernels/base/error.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

std::string parent_of(const std::string& path) {
  return fs::path(path).parent_path().string();
}

bool chance(std::mt19937& random, int one_in) {
  return std::uniform_int_distribution<int>(1, one_in)(random) == 1;
}

uint64_t below(std::mt19937& random, uint64_t n) {
  return std::uniform_int_distribution<uint64_t>(0, n - 1)(random);
}

void apply(std::string& bytes, uint64_t offset, std::string_view data) {
  if (bytes.size() < offset + data.size()) bytes.resize(offset + data.size(), '\0');
  std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

// Path below `folder`; empty: the folder itself.
std::string relative(const std::string& path, const std::string& folder) {
  if (path.empty() || path == folder) return "";
  LT_CHECK(path.starts_with(folder + "/"), "{} is not below {}", path, folder);
  return path.substr(folder.size() + 1);
}

}  // namespace

std::vector<Recorded> read_record(const fs::path& record, const fs::path& folder) {
  std::ifstream file(record, std::ios::binary);
  std::vector<Recorded> out;
  for (RecordHead head; file.read(reinterpret_cast<char*>(&head), sizeof head);) {
    Recorded next;
    next.call = head.call;
    next.offset = head.offset;
    next.path.resize(head.path_bytes);
    next.target.resize(head.target_bytes);
    next.data.resize(head.bytes);
    for (std::string* part : {&next.path, &next.target, &next.data})
      file.read(part->data(), static_cast<std::streamsize>(part->size()));
    LT_CHECK(file, "{} is cut off", record.string());
    next.path = relative(next.path, folder.string());
    next.target = relative(next.target, folder.string());
    out.push_back(std::move(next));
  }
  return out;
}

void Disk::Tree::apply(const Entry& entry) {
  if (entry.call == Call::unlink) {
    files.erase(entry.path);
  } else if (entry.call == Call::rename) {
    files.erase(entry.path);
    files[entry.target] = entry.file;
  } else {
    files[entry.path] = entry.file;
  }
}

void Disk::change_entry(const Entry& entry) {
  now_.apply(entry);
  entries_.push_back(entry);
}

void Disk::sync(File& file) {
  for (const Change& change : file.changes) {
    if (change.truncates)
      file.synced.resize(change.offset, '\0');
    else
      apply(file.synced, change.offset, change.data);
  }
  file.changes.clear();
}

void Disk::sync_folder(const std::string& folder) {
  const auto concerns = [&](const Entry& entry) {
    return parent_of(entry.path) == folder;  // every rename stays in its folder
  };
  for (const Entry& entry : entries_)
    if (concerns(entry)) synced_.apply(entry);
  std::erase_if(entries_, concerns);
}

void Disk::play(const Recorded& call) {
  const auto found = now_.files.find(call.path);
  const FilePtr file = found == now_.files.end() ? nullptr : found->second;
  const bool is_log = call.path.ends_with("/COMMIT");
  switch (call.call) {
    case Call::create:
      return change_entry({call.call, call.path, "", std::make_shared<File>()});
    case Call::mkdir:
      return change_entry({call.call, call.path, "", nullptr});
    case Call::unlink:
      return change_entry({call.call, call.path, "", file});
    case Call::rename:
      LT_CHECK(parent_of(call.path) == parent_of(call.target), "a rename to another folder");
      return change_entry({call.call, call.path, call.target, file});
    case Call::write:
      LT_CHECK(file, "a write to {}, which is not there", call.path);
      return file->changes.push_back({false, call.offset, call.data});
    case Call::truncate:
      LT_CHECK(file, "a truncation of {}, which is not there", call.path);
      return file->changes.push_back({true, call.offset, ""});
    case Call::sync:
      if (file && ignored_ != Ignored::file) sync(*file);
      return;
    case Call::sync_data:
      if (file && !(is_log && ignored_ == Ignored::log)) sync(*file);
      reported_ += is_log;
      return;
    case Call::sync_folder:
      if (ignored_ != Ignored::folder) sync_folder(call.path);
      return;
    case Call::close:
      return;
  }
}

// Unsynced changes: none, all, the first ones, or any sectors of them, old or zero where missing.
std::string Disk::some_bytes(const File& file, std::mt19937& random) {
  const int way = static_cast<int>(below(random, 4));
  std::string out = file.synced;
  if (way == 0) return out;
  const size_t most = way == 2 ? below(random, file.changes.size() + 1) : file.changes.size();
  const uint64_t sector = chance(random, 2) ? 512 : 4096;
  for (size_t i = 0; i < most; ++i) {
    const Change& change = file.changes[i];
    if (change.truncates) {
      if (way != 3 || chance(random, 2)) out.resize(change.offset, '\0');
      continue;
    }
    if (way != 3) {
      apply(out, change.offset, change.data);
      continue;
    }
    const uint64_t end = change.offset + change.data.size();
    for (uint64_t at = change.offset; at < end;) {
      const uint64_t stop = std::min(end, (at / sector + 1) * sector);
      const uint64_t lot = below(random, 3);
      const std::string_view part =
          std::string_view(change.data).substr(at - change.offset, stop - at);
      if (lot == 0) apply(out, at, part);
      if (lot == 1 && stop > file.synced.size()) apply(out, at, std::string(part.size(), '\0'));
      at = stop;
    }
  }
  // A file may have grown less than it was to.
  if (way == 3 && out.size() > file.synced.size() && chance(random, 2))
    out.resize(file.synced.size() + below(random, out.size() - file.synced.size() + 1));
  return out;
}

// Unsynced entries: none, all, the first ones, or any of them.
Disk::Tree Disk::some_tree(std::mt19937& random) const {
  Tree out = synced_;
  const int way = static_cast<int>(below(random, 4));
  const size_t most = way == 0   ? 0
                      : way == 2 ? below(random, entries_.size() + 1)
                                 : entries_.size();
  for (size_t i = 0; i < most; ++i)
    if (way != 3 || chance(random, 2)) out.apply(entries_[i]);
  return out;
}

void Disk::write_image(const fs::path& to, std::mt19937& random) const {
  fs::create_directories(to);
  std::map<const File*, std::string> contents;  // two names may lead to one file
  const Tree tree = some_tree(random);
  for (const auto& [path, file] : tree.files) {
    // Sorted: a folder comes before what is in it. Without its folder a file is lost.
    const std::string parent = parent_of(path);
    const auto folder = tree.files.find(parent);
    if (!parent.empty() && (folder == tree.files.end() || folder->second)) continue;
    if (!parent.empty() && !fs::exists(to / parent)) continue;
    if (!file) {
      fs::create_directory(to / path);
      continue;
    }
    auto [text, fresh] = contents.try_emplace(file.get());
    if (fresh) text->second = some_bytes(*file, random);
    std::ofstream(to / path, std::ios::binary) << text->second;
  }
}

}  // namespace longtake::crash
