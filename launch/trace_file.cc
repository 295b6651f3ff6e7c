#include "launch/trace_file.h"

#include <fmt/core.h>

#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

// Rows of a rank in the picture.
enum Row { kCompute = 0, kMessages = 1, kWaiting = 2 };

Row row_of(const Instruction& i) {
  return std::holds_alternative<Send>(i) || std::holds_alternative<Recv>(i) ? kMessages : kCompute;
}

std::string event(int rank, Row row, const std::string& name, double start_s, double seconds) {
  return fmt::format(R"({{"name":"{}","ph":"X","pid":{},"tid":{},"ts":{:.1f},"dur":{:.1f}}})", name,
                     rank, static_cast<int>(row), start_s * 1e6, seconds * 1e6);
}

std::string row_name(int rank, Row row, const char* name) {
  return fmt::format(
      R"({{"name":"thread_name","ph":"M","pid":{},"tid":{},"args":{{"name":"{}"}}}})", rank,
      static_cast<int>(row), name);
}

}  // namespace

std::string trace_events(int rank, const Trace& trace) {
  std::string out = fmt::format(
      R"({{"name":"process_name","ph":"M","pid":{0},"args":{{"name":"rank {0}"}}}})", rank);
  for (const auto& [row, name] :
       {std::pair{kCompute, "compute"}, {kMessages, "messages"}, {kWaiting, "waiting"}})
    out += ",\n" + row_name(rank, row, name);
  for (const TraceEvent& e : trace.events()) {
    const std::string name = to_text(e.instruction);
    if (e.wait_s > 0) out += ",\n" + event(rank, kWaiting, name, e.start_s, e.wait_s);
    const double own = e.end_s - e.start_s - e.wait_s;
    if (name.starts_with("release")) continue;  // too short to see
    out += ",\n" + event(rank, row_of(e.instruction), name, e.start_s + e.wait_s, own);
  }
  return out;
}

void write_trace(const std::vector<std::string>& ranks, const std::filesystem::path& run) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (size_t i = 0; i < ranks.size(); ++i) out += (i ? ",\n" : "") + ranks[i];
  replace_file(run / "trace.json", out + "\n]}\n");
}

}  // namespace longtake
