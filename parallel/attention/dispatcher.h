// A pipeline rank's side of the attention workers. Each self-attention is cut into pieces; workers
// with credit take them from the front, the rank itself from the back while it would otherwise wait
// (attention_workers: nothing is assigned ahead, so what no worker takes is simply local work).
// Inputs stay until the answer is here and the function is pure: a piece may be asked of anybody at
// any time, and the result has the same bits whoever computed it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "parallel/attention/exchange.h"
#include "parallel/attention/pair_listener.h"
#include "parallel/attention/worker_health.h"

namespace longtake {

struct DispatchRules {
  HealthRules health;
  double least_work = 1e7;     // query rows x keys of a head below which it is not sent
  double hedged_share = 0.05;  // of the work of workers, that may be computed twice when late
  int64_t trial_every = 1000;  // of the tasks is computed here as well, and compared
  int64_t replan_calls = 128;  // after so many the order of asking is planned anew
  int64_t probe_calls = 32;    // a worker without a task for so long is tried: it may be faster now
  bool weigh = true;           // false, for tests: who has a free slot is asked, worth it or not
  double close_s = 1.0;        // to say goodbye
};

struct WorkerReport {
  std::string name;
  WorkerState state = WorkerState::probation;
  std::string reason;  // of being dead or suspect
  int64_t tasks = 0, trials = 0, late = 0, redispatched = 0;
  int64_t dropped = 0;  // answers that nobody waits for any more
  uint64_t sent_bytes = 0, received_bytes = 0;
  uint64_t resident_bytes = 0;  // of keys that were not sent since the worker had them
  double kernel_s = 0, queue_s = 0;
  double exposed_s = 0;  // that the rank waited for it with nothing else to do
  bool shared_memory = false;
};

// A piece that a worker had when it was lost, or was late with. Seconds of the steady clock.
struct Redispatch {
  double lost_s = 0;   // when that was noticed
  double again_s = 0;  // when the piece was under way again
};

struct DispatchReport {
  std::vector<WorkerReport> workers;  // in the order of joining
  int64_t calls = 0, pieces_here = 0, pieces_away = 0;
  int64_t refused = 0;  // connections
  std::vector<Redispatch> redispatches;
  // What the last plan from measured times says of a layer, in all branches; 0: there was none.
  double planned_s = 0, planned_alone_s = 0;
  int64_t plan_changes = 0;
  std::string error;  // what ended handing out work before the end of the run
};

class AttentionDispatcher : public AttentionExchange {
 public:
  // `door` may be null: then workers come through add_worker() only.
  AttentionDispatcher(const DispatchRules& rules, std::unique_ptr<PairListener> door);
  ~AttentionDispatcher() override;

  uint16_t port() const { return port_; }  // of the door; 0: there is none
  void add_worker(std::unique_ptr<PairLink> link);
  // Workers that answer now; waits for `count` of them for at most `seconds`.
  int64_t workers(int64_t count = 0, double seconds = 0);

  bool anybody() const override;
  Call start(const AttentionArgs& args, const AttentionKey& key, StreamRef stream) override;
  void finish(Call call, StreamRef stream) override;
  void abandon(Call call) noexcept override;

  DispatchReport report() const;
  // Says goodbye to all workers. Idempotent.
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
  uint16_t port_ = 0;
};

}  // namespace longtake
