#include "kernels/cuda/quiet.h"

namespace longtake::cuda {

namespace {

std::mutex& gate() {
  static std::mutex mutex;
  return mutex;
}

// How many of these the thread holds: one within another takes nothing.
thread_local int held = 0;

}  // namespace

Capturing::Capturing() : lock_(gate()) {
  ++held;
}

Capturing::~Capturing() {
  --held;
}

DeviceWide::DeviceWide() {
  if (held++ == 0) lock_.emplace(gate());
}

DeviceWide::~DeviceWide() {
  --held;
}

}  // namespace longtake::cuda
