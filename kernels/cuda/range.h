// Names a stretch of the calling thread's work in a profile (NVTX: nsys, ncu); a few nanoseconds
// when none is taken, nothing without CUDA. Ranges nest. No CUDA header is needed to use it.
#pragma once

namespace longtake::cuda {

class Range {
 public:
  explicit Range(const char* name);  // copied by the profiler
  ~Range();
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

}  // namespace longtake::cuda
