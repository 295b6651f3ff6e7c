// What a rank thinks of an attention worker: probation -> ok -> suspect -> probation, and dead from
// anywhere. Pure: times are given in seconds of any one clock.
#pragma once

#include <cstdint>
#include <string>

namespace longtake {

enum class WorkerState : uint8_t { probation, ok, suspect, dead };
const char* name(WorkerState state);

struct HealthRules {
  double heartbeat_s = 1.0;
  int missed_heartbeats = 5;      // then it is dead
  int misses = 2;                 // late tasks in a row, then it is suspect
  double least_deadline_s = 0.5;  // no task is late before
  double first_deadline_s = 30;   // while its pace is not known
};

// Mean and deviation of seconds per unit of work, of the last tasks mostly.
class Pace {
 public:
  void add(double seconds, double work);
  bool known() const { return count_ > 0; }
  double mean() const { return mean_; }
  double deviation() const;

 private:
  int64_t count_ = 0;
  double mean_ = 0, variance_ = 0;
};

class WorkerHealth {
 public:
  WorkerHealth(const HealthRules& rules, double now) : rules_(rules), heard_(now) {}

  WorkerState state() const { return state_; }
  const std::string& reason() const { return reason_; }  // of being dead or suspect
  const Pace& pace() const { return pace_; }
  // May be given work whose answer counts.
  bool trusted() const { return state_ == WorkerState::ok; }
  // To be asked for something that the rank computes as well.
  bool on_trial() const { return state_ == WorkerState::probation; }

  void heard(double now) { heard_ = now; }
  void answered(double seconds, double work);
  void compared(bool equal);  // an answer with the rank's own
  void missed(double late_s);
  void lost(const std::string& reason);
  bool silent(double now) const;
  // max(3 mean, mean + 6 sigma) of `work` in the queue, its own included.
  double deadline_s(double work) const;

 private:
  HealthRules rules_;
  WorkerState state_ = WorkerState::probation;
  std::string reason_;
  Pace pace_;
  double heard_;
  int misses_ = 0;
};

}  // namespace longtake
