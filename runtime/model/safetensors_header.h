// The JSON header of a safetensors file, entry by entry; where the data lies is not checked here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/shape.h"

namespace longtake {

struct HeaderEntry {
  std::string name;
  std::string type;
  std::optional<DType> dtype;
  Shape shape;
  uint64_t begin = 0, end = 0;  // in the data; end - begin fits shape and type
};

// In the header's own order, each name once.
std::vector<HeaderEntry> parse_header_json(std::string_view json, const std::string& where);

}  // namespace longtake
