// Attention workers as threads of the test, each linked to a dispatcher without sockets.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/attention/dispatcher.h"
#include "parallel/attention/worker.h"
#include "tests/support/random.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {

inline PairTerms large_terms(uint32_t epoch = 1) {
  PairTerms terms;
  terms.epoch = epoch;
  terms.slots = 3;
  terms.task_bytes = terms.answer_bytes = uint64_t{8} << 20;
  return terms;
}

class ThreadWorker {
 public:
  ThreadWorker(std::unique_ptr<PairLink> link, const WorkerRules& rules)
      : thread_([this, rules, link = std::move(link)]() mutable {
          RankStream stream(1);
          std::vector<std::unique_ptr<PairLink>> links;
          links.push_back(std::move(link));
          summary_ = run_worker(std::move(links), rules, stop_, stream.ref());
        }) {}
  ~ThreadWorker() {
    stop_ = true;
    thread_.join();
  }
  void stop() { stop_ = true; }
  const WorkerSummary& join() {
    thread_.join();
    thread_ = std::thread([] {});
    return summary_;
  }

 private:
  std::atomic<bool> stop_{false};
  WorkerSummary summary_;
  std::thread thread_;
};

// One self-attention over up to three segments of keys, with its result computed here.
struct AttentionCase {
  AttentionCase(DType dtype, int64_t queries, int64_t heads, int64_t head_dim,
                const std::vector<int64_t>& rows, uint64_t seed);

  AttentionArgs args();
  bool right() const;  // the result has the bits of attention()
  void clear();

  OwnedTensor q, out, expected;
  std::vector<OwnedTensor> k, v;
  std::vector<KeySegment> segments;
  float scale;
};

}  // namespace longtake::testing
