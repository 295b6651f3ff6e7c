// The files of configs/hardware and configs/models as they were when the program was built.
#pragma once

#include <span>

namespace longtake {

struct ShippedTable {
  const char* kind;  // "hardware", "models"
  const char* name;  // without .yaml
  const char* text;
};

std::span<const ShippedTable> shipped_tables();

}  // namespace longtake
