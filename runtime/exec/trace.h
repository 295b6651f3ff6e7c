// What a rank did when: one event per instruction, for trace.json and the report.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/plan/instruction.h"

namespace longtake {

struct TraceEvent {
  Instruction instruction;
  double start_s = 0, end_s = 0;  // since the trace began
  double wait_s = 0;              // of that, waiting for a message or a free buffer
};

class Trace {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Trace(size_t most_events = 200000) : start_(Clock::now()), most_(most_events) {}

  Clock::time_point start() const { return start_; }
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  // Sums are kept of all events, the events themselves up to the limit.
  void add(const TraceEvent& event);

  const std::vector<TraceEvent>& events() const { return events_; }
  int64_t dropped() const { return dropped_; }
  // Seconds by kind of instruction, waiting left out; index() of the variant.
  double seconds(size_t kind) const { return kind < by_kind_.size() ? by_kind_[kind] : 0; }
  double wait_seconds() const { return wait_s_; }

 private:
  Clock::time_point start_;
  size_t most_;
  int64_t dropped_ = 0;
  std::vector<TraceEvent> events_;
  std::vector<double> by_kind_ = std::vector<double>(std::variant_size_v<Instruction>, 0.0);
  double wait_s_ = 0;
};

}  // namespace longtake
