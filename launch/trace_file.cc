#include "launch/trace_file.h"

#include <fmt/core.h>

#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

// Rows of a rank in the picture, the predicted ones next to those that were measured.
enum Row { kCompute, kPredictedCompute, kMessages, kPredictedMessages, kWaiting, kStore, kDecode };
constexpr std::pair<Row, const char*> kRows[] = {
    {kCompute, "compute"},   {kPredictedCompute, "compute, predicted"},
    {kMessages, "messages"}, {kPredictedMessages, "messages, predicted"},
    {kWaiting, "waiting"},   {kStore, "store"},
    {kDecode, "decode"}};

constexpr int64_t kMostPredicted = 50000;  // events of a rank

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

std::string trace_events(int rank, const Trace& trace,
                         const std::vector<StreamWriter::Event>& written) {
  std::string out = fmt::format(
      R"({{"name":"process_name","ph":"M","pid":{0},"args":{{"name":"rank {0}"}}}})", rank);
  for (const auto& [row, name] : kRows) out += ",\n" + row_name(rank, row, name);
  for (const TraceEvent& e : trace.events()) {
    const std::string name = to_text(e.instruction);
    if (e.wait_s > 0) out += ",\n" + event(rank, kWaiting, name, e.start_s, e.wait_s);
    const double own = e.end_s - e.start_s - e.wait_s;
    if (name.starts_with("release")) continue;  // too short to see
    out += ",\n" + event(rank, row_of(e.instruction), name, e.start_s + e.wait_s, own);
  }
  const auto at = [&](Trace::Clock::time_point time) {
    return std::chrono::duration<double>(time - trace.start()).count();
  };
  for (const StreamWriter::Event& w : written) {
    using Kind = StreamWriter::Event::Kind;
    const bool decodes = w.kind == Kind::decode;
    const char* const name = decodes ? "decode b" : w.kind == Kind::block ? "store b" : "state s";
    out += ",\n" + event(rank, decodes ? kDecode : kStore, fmt::format("{}{}", name, w.index),
                         at(w.begin), at(w.end) - at(w.begin));
  }
  return out;
}

void PredictedTrace::add(const SimulatedEvent& e) {
  const std::string name = to_text(e.instruction);
  int64_t& count = counts_[static_cast<size_t>(e.rank.value)];
  if (e.end_s <= e.begin_s || ++count > kMostPredicted) return;
  const Row row = row_of(e.instruction) == kMessages ? kPredictedMessages : kPredictedCompute;
  out_ += out_.empty() ? "" : ",\n";
  out_ += event(static_cast<int>(e.rank.value), row, name, e.begin_s, e.end_s - e.begin_s);
}

std::string PredictedTrace::events() const {
  return out_;
}

void write_trace(const std::vector<std::string>& ranks, const std::filesystem::path& run) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  bool first = true;
  for (const std::string& events : ranks) {
    if (events.empty()) continue;
    out += first ? "" : ",\n";
    out += events;
    first = false;
  }
  replace_file(run / "trace.json", out + "\n]}\n");
}

}  // namespace longtake
