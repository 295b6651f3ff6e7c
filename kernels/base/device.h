// Where memory lives and work runs.
#pragma once

#include <cstddef>

namespace longtake {

enum class DeviceType { cpu, cuda };

// Memory of a device, handed out and taken back in the order of one stream's work: what is given
// back can be given out again at once, since work on it comes later in that stream.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* allocate(size_t bytes) = 0;  // never null; fails with the device's name
  virtual void free(void* data, size_t bytes) = 0;
};

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  // Where new tensors of this device come from. Null: ordinary host memory, of the CPU only.
  DeviceMemory* memory = nullptr;

  bool operator==(const Device& other) const { return type == other.type && index == other.index; }
};

}  // namespace longtake
