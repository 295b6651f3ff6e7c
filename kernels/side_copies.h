// Copies between host memory and a stream's device beside the stream's work: a queue of their own,
// in the order of the calls. Nothing is ordered between copies and work but what is said here.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/base/device.h"

namespace longtake {

class SideCopies {
 public:
  virtual ~SideCopies() = default;
  // Host memory that copies can reach while the caller goes on; null: any.
  virtual std::shared_ptr<DeviceMemory> host_memory() = 0;
  // to = from: one is device memory, the other host_memory(). Both must live until finish().
  virtual void copy(const void* from, void* to, size_t bytes) = 0;
  // Copies from now on come after all work issued so far.
  virtual void wait_for_work() = 0;
  // Moves mark `index` (0, 1, ...) behind all copies issued so far.
  virtual void mark(int index) = 0;
  // Work from now on comes after the copies before the mark.
  virtual void hold_work(int index) = 0;
  // Returns when all copies are done.
  virtual void finish() = 0;
};

}  // namespace longtake
