// A pipeline rank that computes attention for the other ranks while it would only wait for them: an
// attention worker in place, on the rank's own cores.
#pragma once

#include <atomic>
#include <thread>

#include "launch/job.h"
#include "parallel/attention/pair_listener.h"
#include "parallel/attention/worker.h"
#include "parallel/attention/worker_gate.h"

namespace longtake {

class AttentionService {
 public:
  // Joins the doors of all other ranks. `job` outlives it.
  AttentionService(const Job& job, const AddressFile& doors, int rank, int rank_on_node,
                   int threads);
  ~AttentionService();

  WorkerGate& gate() { return gate_; }
  // Leaves, and says what it did. Idempotent.
  const WorkerSummary& finish();

 private:
  void serve(const Job& job, AddressFile doors, int rank, int rank_on_node, int threads);

  WorkerGate gate_;
  std::atomic<bool> stop_{false};
  WorkerSummary summary_;
  std::thread thread_;
};

}  // namespace longtake
