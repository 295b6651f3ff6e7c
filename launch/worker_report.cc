#include "launch/worker_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launch/report.h"

namespace longtake {

namespace {

WorkerState state_of(const std::string& text) {
  for (const WorkerState state :
       {WorkerState::probation, WorkerState::ok, WorkerState::suspect, WorkerState::dead})
    if (text == name(state)) return state;
  return WorkerState::dead;
}

// Share of its work that the rank did not wait for.
double hidden_share(const WorkerReport& w) {
  return w.kernel_s > 0 ? std::clamp(1 - w.exposed_s / w.kernel_s, 0.0, 1.0) : 1.0;
}

std::vector<double> seconds_of(const std::vector<Redispatch>& all) {
  std::vector<double> out;
  for (const Redispatch& one : all) out.push_back(one.again_s - one.lost_s);
  return out;
}

}  // namespace

nlohmann::ordered_json json_of(const DispatchReport& r) {
  const std::vector<double> redispatch_s = seconds_of(r.redispatches);
  nlohmann::ordered_json workers = nlohmann::json::array();
  for (const WorkerReport& w : r.workers)
    workers.push_back({{"name", w.name},
                       {"state", name(w.state)},
                       {"reason", w.reason},
                       {"tasks", w.tasks},
                       {"trials", w.trials},
                       {"late", w.late},
                       {"redispatched", w.redispatched},
                       {"dropped", w.dropped},
                       {"sent_bytes", w.sent_bytes},
                       {"received_bytes", w.received_bytes},
                       {"resident_bytes", w.resident_bytes},
                       {"kernel_s", w.kernel_s},
                       {"queue_s", w.queue_s},
                       {"exposed_s", w.exposed_s},
                       {"hidden_share", hidden_share(w)},
                       {"shared_memory", w.shared_memory}});
  return {{"calls", r.calls},
          {"pieces_here", r.pieces_here},
          {"pieces_away", r.pieces_away},
          {"refused", r.refused},
          {"planned_s", r.planned_s},
          {"planned_alone_s", r.planned_alone_s},
          {"plan_changes", r.plan_changes},
          {"error", r.error},
          {"redispatch_s", redispatch_s},
          {"redispatch_p50_s", percentile(redispatch_s, 0.5)},
          {"redispatch_p99_s", percentile(redispatch_s, 0.99)},
          {"workers", workers}};
}

DispatchReport dispatch_report_of(const nlohmann::json& json) {
  DispatchReport r;
  r.calls = json.at("calls");
  r.pieces_here = json.at("pieces_here");
  r.pieces_away = json.at("pieces_away");
  r.refused = json.at("refused");
  r.planned_s = json.at("planned_s");
  r.planned_alone_s = json.at("planned_alone_s");
  r.plan_changes = json.at("plan_changes");
  r.error = json.at("error");
  for (const double seconds : json.at("redispatch_s").get<std::vector<double>>())
    r.redispatches.push_back({0, seconds});
  for (const auto& from : json.at("workers")) {
    WorkerReport w;
    w.name = from.at("name");
    w.state = state_of(from.at("state"));
    w.reason = from.at("reason");
    w.tasks = from.at("tasks");
    w.trials = from.at("trials");
    w.late = from.at("late");
    w.redispatched = from.at("redispatched");
    w.dropped = from.at("dropped");
    w.sent_bytes = from.at("sent_bytes");
    w.received_bytes = from.at("received_bytes");
    w.resident_bytes = from.at("resident_bytes");
    w.kernel_s = from.at("kernel_s");
    w.queue_s = from.at("queue_s");
    w.exposed_s = from.at("exposed_s");
    w.shared_memory = from.at("shared_memory");
    r.workers.push_back(w);
  }
  return r;
}

std::string to_text(const DispatchReport& r, int rank) {
  if (r.workers.empty()) return "";
  const double pieces = static_cast<double>(std::max<int64_t>(1, r.pieces_here + r.pieces_away));
  std::string out =
      fmt::format("rank {}: {:.1f} % of {} pieces of attention by workers", rank,
                  100 * static_cast<double>(r.pieces_away) / pieces, r.pieces_here + r.pieces_away);
  const std::vector<double> again_s = seconds_of(r.redispatches);
  if (!again_s.empty())
    out += fmt::format("; {} asked again, p50 {:.1f} ms, p99 {:.1f} ms", again_s.size(),
                       1e3 * percentile(again_s, 0.5), 1e3 * percentile(again_s, 0.99));
  out += "\n";
  if (!r.error.empty()) out += fmt::format("  workers were given up: {}\n", r.error);
  if (r.planned_s > 0)
    out += fmt::format("  a layer, from measured times: {:.1f} ms with workers, {:.1f} ms alone\n",
                       1e3 * r.planned_s, 1e3 * r.planned_alone_s);
  for (const WorkerReport& w : r.workers)
    out += fmt::format(
        "  {}: {} tasks, {:.1f} MB out{}, {:.1f} MB back{}, busy {:.2f} s, {:.1f} % hidden, {} "
        "late, "
        "{} asked again, {}{}\n",
        w.name, w.tasks, static_cast<double>(w.sent_bytes) / 1e6,
        w.resident_bytes > 0
            ? fmt::format(" ({:.1f} MB there already)", static_cast<double>(w.resident_bytes) / 1e6)
            : "",
        static_cast<double>(w.received_bytes) / 1e6, w.shared_memory ? " in shared memory" : "",
        w.kernel_s, 100 * hidden_share(w), w.late, w.redispatched, name(w.state),
        w.reason.empty() ? "" : " (" + w.reason + ")");
  return out;
}

}  // namespace longtake
