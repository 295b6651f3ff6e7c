// LD_PRELOAD library: counts the file calls below one folder, and at the n-th kills the process or
// lets the call fail; or writes all of them down. HDF5 and libav go through libc, so their calls
// are seen too. Variables:
//   CRASH_FOLDER   only files below it count (an absolute path without links)
//   CRASH_RANK     only this rank of an MPI job counts (default: every process)
//   CRASH_KILL     N:before | N:after | N:half    (half: only half of a write is done)
//                  N:state  after the n-th line of COMMIT that names a state is written, not synced
//   CRASH_ERROR    N:EIO | N:ENOSPC | N:EDQUOT | N:SHORT, and :sticky for all calls from N on
//   CRASH_LIST     FILE: one line per call, "N name path"
//   CRASH_RECORD   FILE: all calls with their data, see record.h
//   CRASH_NO_SYNC  1: fsync and fdatasync do nothing
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tests/crash/record.h"

#define NEXT(name) (reinterpret_cast<decltype(&::name)>(::dlsym(RTLD_NEXT, #name)))

namespace longtake::crash {
namespace {

enum class When { never, before, after, half, state_line };

std::string text_of(const char* name) {
  const char* text = ::getenv(name);
  return text ? text : "";
}

struct Settings {
  std::string folder = text_of("CRASH_FOLDER");
  long kill_at = 0, error_at = 0;
  When when = When::never;
  int error = 0;  // 0: a short write
  bool sticky = false, no_sync = !text_of("CRASH_NO_SYNC").empty();
  int list = -1, record = -1;

  Settings() {
    const std::string rank = text_of("CRASH_RANK"), mine = text_of("OMPI_COMM_WORLD_RANK");
    if (!rank.empty() && rank != mine) folder.clear();
    if (folder.empty()) return;
    const std::string kill = text_of("CRASH_KILL"), error_text = text_of("CRASH_ERROR");
    kill_at = ::atol(kill.c_str());
    if (kill_at > 0)
      when = kill.find(":half") != std::string::npos    ? When::half
             : kill.find(":state") != std::string::npos ? When::state_line
             : kill.find(":after") != std::string::npos ? When::after
                                                        : When::before;
    error_at = ::atol(error_text.c_str());
    sticky = error_text.find(":sticky") != std::string::npos;
    for (const auto& [name, code] :
         {std::pair{":EIO", EIO}, {":ENOSPC", ENOSPC}, {":EDQUOT", EDQUOT}})
      if (error_text.find(name) != std::string::npos) error = code;
    list = log_file("CRASH_LIST");
    record = log_file("CRASH_RECORD");
  }

  static int log_file(const char* name) {
    const std::string path = text_of(name);
    if (path.empty()) return -1;
    return NEXT(open)(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  }
};

const Settings& settings() {
  static const Settings once;
  return once;
}

std::recursive_mutex& mutex() {
  static std::recursive_mutex once;
  return once;
}

std::string absolute(const char* path) {
  if (!path) return "";
  if (path[0] == '/') return path;
  char folder[PATH_MAX];
  return ::getcwd(folder, sizeof folder) ? std::string(folder) + "/" + path : path;
}

std::string path_of(int descriptor) {
  char link[64], path[PATH_MAX];
  ::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t n = ::readlink(link, path, sizeof path);
  return n > 0 ? std::string(path, static_cast<size_t>(n)) : "";
}

bool counts(const std::string& path) {
  const std::string& folder = settings().folder;
  return !folder.empty() && path.compare(0, folder.size(), folder) == 0 &&
         (path.size() == folder.size() || path[folder.size()] == '/');
}

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

void put(int file, const void* data, size_t bytes) {
  static const auto real = NEXT(write);
  if (bytes > 0 && real(file, data, bytes) != static_cast<ssize_t>(bytes)) ::abort();
}

// One counted call: `before` may kill or say that the call must fail; `after` notes what was done.
class Counted {
 public:
  Counted(Call call, std::string path, std::string target = "")
      : call_(call), path_(std::move(path)), target_(std::move(target)) {
    active_ = counts(path_) || counts(target_);
    if (!active_) return;
    mutex().lock();
    static long calls = 0;
    number_ = ++calls;
    const Settings& s = settings();
    if (s.list >= 0) {
      const std::string line = std::to_string(number_) + " " +
                               kCallNames[static_cast<uint32_t>(call)] + " " + path_ + "\n";
      put(s.list, line.data(), line.size());
    }
    if (s.when == When::before && number_ == s.kill_at) die();
  }
  ~Counted() {
    if (active_) mutex().unlock();
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  // Sets errno.
  bool fails() const {
    if (!hit() || settings().error == 0) return false;
    errno = settings().error;
    return true;
  }
  // How many of `bytes` a write may take.
  size_t most(size_t bytes) const {
    const bool halved =
        (active_ && settings().when == When::half && number_ == settings().kill_at) ||
        (hit() && settings().error == 0);
    return halved && bytes > 1 ? bytes / 2 : bytes;
  }
  void done(uint64_t offset = 0, const void* data = nullptr, uint64_t bytes = 0) const {
    if (!active_) return;
    const Settings& s = settings();
    const int error = errno;
    if (s.record >= 0) {
      const RecordHead head{call_, static_cast<uint32_t>(path_.size()),
                            static_cast<uint32_t>(target_.size()), offset, bytes};
      put(s.record, &head, sizeof head);
      put(s.record, path_.data(), path_.size());
      put(s.record, target_.data(), target_.size());
      put(s.record, data, bytes);
    }
    if ((s.when == When::after || s.when == When::half) && number_ == s.kill_at) die();
    if (s.when == When::state_line && names_a_state(data, bytes)) {
      static long lines = 0;
      if (++lines == s.kill_at) die();
    }
    errno = error;
  }
  bool active() const { return active_; }

 private:
  bool names_a_state(const void* data, uint64_t bytes) const {
    return call_ == Call::write && path_.ends_with("/COMMIT") &&
           std::string_view(static_cast<const char*>(data), bytes).find("\"state\"") !=
               std::string_view::npos;
  }
  bool hit() const {
    const Settings& s = settings();
    return active_ && s.error_at > 0 && (s.sticky ? number_ >= s.error_at : number_ == s.error_at);
  }

  Call call_;
  std::string path_, target_;
  bool active_ = false;
  long number_ = 0;
};

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

template <class Open>
int opened(const char* name, int flags, const Open& real) {
  if (!(flags & (O_CREAT | O_TRUNC))) return real();
  const std::string path = absolute(name);
  if (!counts(path)) return real();
  const bool made = !exists(path);
  const Counted call(made ? Call::create : Call::truncate, path);
  if (!made && !(flags & O_TRUNC)) return real();
  if (call.fails()) return -1;
  const int descriptor = real();
  if (descriptor >= 0) call.done();
  return descriptor;
}

template <class Write>
ssize_t written(int descriptor, const void* data, size_t bytes, int64_t offset, const Write& real) {
  const Counted call(Call::write, settings().folder.empty() ? "" : path_of(descriptor));
  if (call.fails()) return -1;
  const ssize_t n = real(call.most(bytes));
  if (n < 0 || !call.active()) return n;
  if (offset < 0) offset = ::lseek(descriptor, 0, SEEK_CUR) - n;
  call.done(static_cast<uint64_t>(offset), data, static_cast<uint64_t>(n));
  return n;
}

template <class Sync>
int synced(int descriptor, Call call_of_file, const Sync& real) {
  const std::string path = settings().folder.empty() ? "" : path_of(descriptor);
  struct stat status {};
  const bool folder = ::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
  const Counted call(folder ? Call::sync_folder : call_of_file, path);
  if (call.fails()) return -1;
  const int result = settings().no_sync ? 0 : real();
  if (result == 0) call.done();
  return result;
}

template <class Act>
int carried_out(const Counted& call, const Act& real, uint64_t offset = 0) {
  if (call.fails()) return -1;
  const int result = real();
  if (result == 0) call.done(offset);
  return result;
}

}  // namespace
}  // namespace longtake::crash

using namespace longtake::crash;

#define TAKE_MODE                                  \
  mode_t mode = 0;                                 \
  if (flags & O_CREAT) {                           \
    va_list more;                                  \
    va_start(more, flags);                         \
    mode = static_cast<mode_t>(va_arg(more, int)); \
    va_end(more);                                  \
  }

extern "C" {

int open(const char* path, int flags, ...) {
  TAKE_MODE
  return opened(path, flags, [&] { return NEXT(open)(path, flags, mode); });
}
int open64(const char* path, int flags, ...) {
  TAKE_MODE
  return opened(path, flags, [&] { return NEXT(open64)(path, flags, mode); });
}
int openat(int folder, const char* path, int flags, ...) {
  TAKE_MODE
  const bool here = folder == AT_FDCWD || path[0] == '/';
  const std::string full = here ? path : path_of(folder) + "/" + path;
  return opened(full.c_str(), flags, [&] { return NEXT(openat)(folder, path, flags, mode); });
}
ssize_t write(int file, const void* data, size_t bytes) {
  return written(file, data, bytes, -1, [&](size_t n) { return NEXT(write)(file, data, n); });
}
ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  return written(file, data, bytes, offset,
                 [&](size_t n) { return NEXT(pwrite)(file, data, n, offset); });
}
ssize_t pwrite64(int file, const void* data, size_t bytes, off64_t offset) {
  return written(file, data, bytes, offset,
                 [&](size_t n) { return NEXT(pwrite64)(file, data, n, offset); });
}
ssize_t writev(int file, const struct iovec* parts, int count) {
  if (settings().folder.empty() || !counts(path_of(file))) return NEXT(writev)(file, parts, count);
  std::vector<char> all;
  for (int i = 0; i < count; ++i) {
    const char* data = static_cast<const char*>(parts[i].iov_base);
    all.insert(all.end(), data, data + parts[i].iov_len);
  }
  return write(file, all.data(), all.size());
}
int fsync(int file) {
  return synced(file, Call::sync, [&] { return NEXT(fsync)(file); });
}
int fdatasync(int file) {
  return synced(file, Call::sync_data, [&] { return NEXT(fdatasync)(file); });
}
int rename(const char* from, const char* to) {
  const Counted call(Call::rename, absolute(from), absolute(to));
  return carried_out(call, [&] { return NEXT(rename)(from, to); });
}
int unlink(const char* path) {
  const Counted call(Call::unlink, absolute(path));
  return carried_out(call, [&] { return NEXT(unlink)(path); });
}
int remove(const char* path) {
  const Counted call(Call::unlink, absolute(path));
  return carried_out(call, [&] { return NEXT(remove)(path); });
}
int mkdir(const char* path, mode_t mode) {
  if (exists(absolute(path))) return NEXT(mkdir)(path, mode);
  const Counted call(Call::mkdir, absolute(path));
  return carried_out(call, [&] { return NEXT(mkdir)(path, mode); });
}
int ftruncate(int file, off_t bytes) {
  const Counted call(Call::truncate, settings().folder.empty() ? "" : path_of(file));
  return carried_out(
      call, [&] { return NEXT(ftruncate)(file, bytes); }, static_cast<uint64_t>(bytes));
}
int ftruncate64(int file, off64_t bytes) {
  const Counted call(Call::truncate, settings().folder.empty() ? "" : path_of(file));
  return carried_out(
      call, [&] { return NEXT(ftruncate64)(file, bytes); }, static_cast<uint64_t>(bytes));
}
// The descriptor is gone even where the call is made to fail, as POSIX has it on Linux.
int close(int file) {
  struct stat status {};
  const bool watched =
      !settings().folder.empty() && ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  const Counted call(Call::close, watched ? path_of(file) : "");
  const int result = NEXT(close)(file);
  if (call.fails()) return -1;
  if (result == 0) call.done();
  return result;
}

}  // extern "C"
