#include "runtime/stream/hdf5_handle.h"

#include <cstring>
#include <utility>

namespace longtake {

namespace {

std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

// The innermost entry says what happened; the operating system's words, when there are any, say
// why.
herr_t take_innermost(unsigned n, const H5E_error2_t* entry, void* text) {
  if (n == 0 && entry->desc) *static_cast<std::string*>(text) = entry->desc;
  return 0;
}

std::string last_error() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &text);
  H5Eclear2(H5E_DEFAULT);
  constexpr std::string_view kKey = "error message = '";
  const size_t begin = text.find(kKey);
  if (begin == std::string::npos) return text.empty() ? "HDF5 gives no reason" : text;
  const size_t end = text.find('\'', begin + kKey.size());
  return text.substr(begin + kKey.size(), end - begin - kKey.size());
}

}  // namespace

Hdf5Lock::Hdf5Lock() : guard_(library_mutex()) {
  static const bool ready = H5dont_atexit() >= 0 && H5open() >= 0;
  LT_CHECK(ready, "libhdf5 does not start");
  // Per thread in thread-safe builds, so it is set again each time.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5Eclear2(H5E_DEFAULT);
}

void fail_hdf5(ExitCode code, std::string_view action, const std::filesystem::path& path) {
  fail(code, "cannot {} {}: {}", action, path.string(), last_error());
}

bool Hdf5Handle::close() {
  const hid_t id = std::exchange(id_, H5I_INVALID_HID);
  return id >= 0 && close_(id) >= 0;
}

Hdf5Handle file_access() {
  const hid_t id = H5Pcreate(H5P_FILE_ACCESS);
  LT_CHECK(id >= 0 && H5Pset_libver_bounds(id, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
               H5Pset_file_locking(id, false, true) >= 0,
           "libhdf5 refuses format V110");
  return Hdf5Handle(id, H5Pclose);
}

static bool write_scalar(hid_t object, const char* name, hid_t type, const void* value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  Hdf5Handle attribute(H5Acreate2(object, name, type, space.id(), H5P_DEFAULT, H5P_DEFAULT),
                       H5Aclose);
  return attribute && H5Awrite(attribute.id(), type, value) >= 0 && attribute.close();
}

bool write_attribute(hid_t object, const char* name, int64_t value) {
  return write_scalar(object, name, H5T_NATIVE_INT64, &value);
}

bool write_attribute(hid_t object, const char* name, double value) {
  return write_scalar(object, name, H5T_NATIVE_DOUBLE, &value);
}

bool write_attribute(hid_t object, const char* name, const std::string& utf8) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  const char* text = utf8.c_str();
  return H5Tset_size(type.id(), H5T_VARIABLE) >= 0 && H5Tset_cset(type.id(), H5T_CSET_UTF8) >= 0 &&
         write_scalar(object, name, type.id(), static_cast<const void*>(&text));
}

}  // namespace longtake
