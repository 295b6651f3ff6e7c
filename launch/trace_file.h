// trace.json for Perfetto (ui.perfetto.dev) or chrome://tracing: a row per rank and kind of work.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "parallel/plan/simulate.h"
#include "runtime/exec/trace.h"
#include "runtime/stream/stream_writer.h"

namespace longtake {

// The events of one rank, as the file wants them: JSON objects with commas between. `written`: of
// the rank that finishes blocks.
std::string trace_events(int rank, const Trace& trace,
                         const std::vector<StreamWriter::Event>& written);

// Rows of what the simulation says, beside the measured ones. Feed it all of a simulation's events.
class PredictedTrace {
 public:
  explicit PredictedTrace(int64_t ranks) : counts_(static_cast<size_t>(ranks)) {}
  void add(const SimulatedEvent& event);
  std::string events() const;

 private:
  std::vector<int64_t> counts_;  // events of each rank so far
  std::string out_;
};

void write_trace(const std::vector<std::string>& ranks, const std::filesystem::path& run);

}  // namespace longtake
