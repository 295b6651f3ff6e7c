// A capture of a CUDA graph and calls that touch the whole device (allocating, freeing, making and
// destroying streams) must not meet, whichever threads they come from: the capture would be lost.
#pragma once

#include <mutex>
#include <optional>

namespace longtake::cuda {

// Held by a thread that captures. What the thread itself calls meanwhile is its own affair.
class Capturing {
 public:
  Capturing();
  ~Capturing();
  Capturing(const Capturing&) = delete;
  Capturing& operator=(const Capturing&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
};

// Held around a call that touches the device; waits for a capture of another thread.
class DeviceWide {
 public:
  DeviceWide();
  ~DeviceWide();
  DeviceWide(const DeviceWide&) = delete;
  DeviceWide& operator=(const DeviceWide&) = delete;

 private:
  std::optional<std::unique_lock<std::mutex>> lock_;
};

}  // namespace longtake::cuda
