// An attention worker: computes what pipeline ranks ask for. It holds no weights and nothing that
// is not with the ranks as well, so it may join, leave or die at any time. Keys that will be asked
// for again it keeps, as many as it has room for.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/stream.h"
#include "parallel/attention/pair_link.h"

namespace longtake {

class WorkerGate;

struct WorkerRules {
  double heartbeat_s = 1.0;
  size_t keep_bytes = 1'000'000'000;  // of keys, for all ranks together
  double silence_s = 15.0;            // without a sign of life of a rank: it is gone
  WorkerGate* gate = nullptr;         // closed: tasks are given back; null: always open
  // For tests: called before a task is computed and before its answer goes.
  std::function<void(const AttentionTask&)> before_task;
  std::function<void(AttentionAnswer&, std::byte* payload)> before_answer;
};

struct WorkerSummary {
  int64_t tasks = 0;
  double kernel_s = 0, idle_s = 0;
  uint64_t received_bytes = 0, sent_bytes = 0;
  int64_t goodbyes = 0;             // ranks that ended in order
  std::vector<std::string> broken;  // why the others' links ended
};

// Computes until every rank has said goodbye or is gone, or `stop` becomes true: then it finishes
// the task under way and leaves in order. Returns what it did.
WorkerSummary run_worker(std::vector<std::unique_ptr<PairLink>> links, const WorkerRules& rules,
                         const std::atomic<bool>& stop, StreamRef stream);

}  // namespace longtake
