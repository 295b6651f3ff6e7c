// libhdf5 made safe: handles that close themselves, errors with the library's own text, one lock
// (the serial library is not thread safe everywhere), and no exit handler (it crashes after a full
// disk).
#pragma once

#include <hdf5.h>

#include <filesystem>
#include <mutex>
#include <string>

#include "kernels/base/error.h"

namespace longtake {

// Held while any HDF5 function runs; the first one sets the library up.
class Hdf5Lock {
 public:
  Hdf5Lock();

 private:
  std::lock_guard<std::mutex> guard_;
};

// "cannot <action> <path>: <reason>", the reason taken from the HDF5 error stack.
[[noreturn]] void fail_hdf5(ExitCode code, std::string_view action,
                            const std::filesystem::path& path);

class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;

  explicit operator bool() const { return id_ >= 0; }
  hid_t id() const { return id_; }
  bool close();  // false on failure; the handle is gone either way

 private:
  hid_t id_;
  Close close_;
};

// Access properties: format V110, no file locks (the files are immutable; RUN/LOCK guards the run).
Hdf5Handle file_access();

// All return false on failure.
bool write_attribute(hid_t object, const char* name, int64_t value);
bool write_attribute(hid_t object, const char* name, double value);
bool write_attribute(hid_t object, const char* name, const std::string& utf8);

}  // namespace longtake
