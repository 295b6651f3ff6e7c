#include "runtime/exec/trace.h"

namespace longtake {

void Trace::add(const TraceEvent& event) {
  by_kind_[event.instruction.index()] += event.end_s - event.start_s - event.wait_s;
  wait_s_ += event.wait_s;
  if (events_.size() < most_)
    events_.push_back(event);
  else
    ++dropped_;
}

}  // namespace longtake
