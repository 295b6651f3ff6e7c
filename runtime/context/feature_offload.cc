#include "runtime/context/feature_offload.h"

#include <tuple>

#include "kernels/base/error.h"

namespace longtake {

FeatureOffload::FeatureOffload(size_t bytes, SideCopies& copies, DeviceMemory* device)
    : bytes_(bytes), copies_(copies), device_(device) {}

FeatureOffload::~FeatureOffload() {
  try {
    copies_.finish();
  } catch (...) {  // unwinding from an error of the device
  }
}

FeatureOffload::Place* FeatureOffload::find(const void* slab) {
  for (Place& place : places_)
    if (place.slab == slab) return &place;
  return nullptr;
}

// The best place that no visit needs: one that work does not wait for, one that holds nothing, the
// one unused for longest. New memory may have been used by work issued before, which copies would
// not know of.
FeatureOffload::Place& FeatureOffload::take(void* slab, int64_t needed) {
  const auto cost = [](const Place& p) {
    return std::tuple(p.pending == Pending::leaving, p.slab != nullptr, p.needed);
  };
  Place* best = nullptr;
  for (Place& place : places_)
    if (place.needed < visit_ && (!best || cost(place) < cost(*best))) best = &place;
  if (!best) {
    best = &places_.emplace_back();
    best->data = Buffer(bytes_, device_);
    copies_.wait_for_work();
  }
  best->slab = slab;
  best->needed = needed;
  return *best;
}

void FeatureOffload::fetch(void* slab, int64_t needed) {
  Place& place = take(slab, needed);
  copies_.copy(slab, place.data.data(), bytes_);
  copies_.mark(mark_of(place));
  place.pending = Pending::arriving;
  ++fetched_;
}

void FeatureOffload::keep(Slabs slabs, int64_t needed) {
  for (const void* slab : slabs)
    if (Place* place = find(slab)) place->needed = needed;
}

void FeatureOffload::await(Place& place) {
  copies_.hold_work(mark_of(place));
  place.pending = Pending::none;
}

void FeatureOffload::begin_visit(Slabs reads, Slabs writes, Slabs next_reads) {
  LT_CHECK(written_.empty(), "a visit begins before the last one has ended");
  ++visit_;
  keep(reads, visit_);
  for (void* slab : reads) {
    if (!find(slab)) {
      fetch(slab, visit_);
      ++fetched_late_;
    }
    Place& place = *find(slab);
    if (place.pending == Pending::arriving) await(place);
  }
  for (void* slab : writes) {
    LT_CHECK(!find(slab), "a slab is written twice");
    Place& place = take(slab, visit_);
    if (place.pending != Pending::none) await(place);
    written_.push_back(slab);
  }
  keep(next_reads, visit_ + 1);
  for (void* slab : next_reads)
    if (!find(slab)) fetch(slab, visit_ + 1);
}

void FeatureOffload::end_visit() {
  copies_.wait_for_work();
  for (void* slab : written_) {
    Place& place = *find(slab);
    copies_.copy(place.data.data(), slab, bytes_);
    copies_.mark(mark_of(place));
    place.pending = Pending::leaving;
  }
  written_.clear();
}

void* FeatureOffload::on_device(const void* slab) const {
  for (const Place& place : places_)
    if (place.slab == slab && place.needed >= visit_) return place.data.data();
  fail(ExitCode::error, "features that the visit did not name");
}

void FeatureOffload::forget(const void* slab) {
  if (Place* place = find(slab)) {
    place->slab = nullptr;
    place->needed = 0;
  }
}

}  // namespace longtake
