// Where memory lives and work runs.
#pragma once

namespace longtake {

enum class DeviceType { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

}  // namespace longtake
