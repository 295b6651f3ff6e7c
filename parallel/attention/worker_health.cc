#include "parallel/attention/worker_health.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace longtake {

const char* name(WorkerState state) {
  constexpr std::array<const char*, 4> kNames{"probation", "ok", "suspect", "dead"};
  return kNames.at(static_cast<size_t>(state));
}

void Pace::add(double seconds, double work) {
  constexpr double kNewest = 1.0 / 16;
  const double pace = seconds / work;
  const double weight = std::max(kNewest, 1.0 / static_cast<double>(++count_));
  const double off = pace - mean_;
  mean_ += weight * off;
  variance_ = (1 - weight) * (variance_ + weight * off * off);
}

double Pace::deviation() const {
  return std::sqrt(variance_);
}

void WorkerHealth::answered(double seconds, double work) {
  pace_.add(seconds, work);
  misses_ = 0;
  if (state_ == WorkerState::suspect) state_ = WorkerState::probation;
}

void WorkerHealth::compared(bool equal) {
  if (!equal) return lost("an answer that differs from the rank's own");
  if (state_ == WorkerState::probation) state_ = WorkerState::ok;
}

void WorkerHealth::missed(double late_s) {
  if (++misses_ < rules_.misses || state_ == WorkerState::dead) return;
  state_ = WorkerState::suspect;
  reason_ = fmt::format("{} tasks late in a row, the last by {:.2f} s", misses_, late_s);
}

void WorkerHealth::lost(const std::string& reason) {
  if (state_ == WorkerState::dead) return;
  state_ = WorkerState::dead;
  reason_ = reason;
}

bool WorkerHealth::silent(double now) const {
  return now - heard_ > rules_.heartbeat_s * rules_.missed_heartbeats;
}

double WorkerHealth::deadline_s(double work) const {
  if (!pace_.known()) return rules_.first_deadline_s;
  const double mean = pace_.mean() * work, deviation = pace_.deviation() * work;
  return std::max({3 * mean, mean + 6 * deviation, rules_.least_deadline_s});
}

}  // namespace longtake
