// Arrays of the golden data, and where it lies.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "kernels/base/error.h"
#include "kernels/base/tensor.h"
#include "runtime/model/safetensors.h"

namespace longtake::testing {

// From CTest; LONGTAKE_GOLDEN_DIR points elsewhere.
inline std::filesystem::path golden_folder() {
  if (const char* folder = std::getenv("LONGTAKE_GOLDEN_DIR")) return folder;
  const char* source = std::getenv("LONGTAKE_SOURCE_DIR");
  LT_CHECK(source, "run the tests with ctest, or set LONGTAKE_SOURCE_DIR");
  return std::filesystem::path(source) / "tests" / "golden" / "data";
}

class GoldenFile {
 public:
  explicit GoldenFile(const std::filesystem::path& path) : file_(path) {}

  OwnedTensor read(const std::string& name) const {
    for (const SafetensorsEntry& entry : file_.entries()) {
      if (entry.name != name) continue;
      OwnedTensor out(entry.dtype.value(), entry.shape);
      file_.read(entry, 0, entry.bytes, out.view().data);
      return out;
    }
    fail(ExitCode::missing_input, "{}: no array {}", file_.path().string(), name);
  }

 private:
  SafetensorsFile file_;
};

}  // namespace longtake::testing
