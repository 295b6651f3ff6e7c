// Slabs of features in host memory, with the few that matter now in the device's: what the visit
// under way reads and writes, and what the next one reads. A slab goes to the host when the visit
// that wrote it ends; what the next visit reads comes to the device while this one works, unless it
// is still there.
//
// Order: copies follow each other (SideCopies), and all copies after a visit's end come after its
// work. So a copy never meets a place that work still uses; work waits for a place's own last copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/buffer.h"
#include "kernels/side_copies.h"

namespace longtake {

class FeatureOffload {
 public:
  // bytes: of every slab; `device`: memory in the order of the work that `copies` go beside. Both
  // outlive this.
  FeatureOffload(size_t bytes, SideCopies& copies, DeviceMemory* device);
  ~FeatureOffload();  // waits for the copies
  FeatureOffload(const FeatureOffload&) = delete;
  FeatureOffload& operator=(const FeatureOffload&) = delete;

  // Slabs by their host memory. `next_reads` must be complete, or written by this visit.
  using Slabs = std::span<void* const>;
  void begin_visit(Slabs reads, Slabs writes, Slabs next_reads);
  void end_visit();
  // Where a slab of the visit under way lies.
  void* on_device(const void* slab) const;
  // Its memory holds something else from now on.
  void forget(const void* slab);
  // Returns when all that was written is in host memory.
  void finish() { copies_.finish(); }

  size_t device_bytes() const { return bytes_ * places_.size(); }
  int64_t fetched() const { return fetched_; }            // slabs that came from the host,
  int64_t fetched_late() const { return fetched_late_; }  // of these, when their visit began

 private:
  enum class Pending { none, arriving, leaving };
  struct Place {
    Buffer data;
    void* slab = nullptr;
    int64_t needed = 0;               // up to this visit
    Pending pending = Pending::none;  // copy that work has not waited for: the mark of its index
  };

  Place* find(const void* slab);
  Place& take(void* slab, int64_t needed);
  void fetch(void* slab, int64_t needed);
  void keep(Slabs slabs, int64_t needed);
  void await(Place& place);
  int mark_of(const Place& place) const { return static_cast<int>(&place - places_.data()); }

  size_t bytes_;
  SideCopies& copies_;
  DeviceMemory* device_;
  std::vector<Place> places_;
  std::vector<void*> written_;  // by the visit under way
  int64_t visit_ = 0, fetched_ = 0, fetched_late_ = 0;
};

}  // namespace longtake
