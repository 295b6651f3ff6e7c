// trace.json for Perfetto (ui.perfetto.dev) or chrome://tracing: a row per rank and kind of work.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/exec/trace.h"

namespace longtake {

// The events of one rank, as the file wants them: JSON objects with commas between.
std::string trace_events(int rank, const Trace& trace);

void write_trace(const std::vector<std::string>& ranks, const std::filesystem::path& run);

}  // namespace longtake
