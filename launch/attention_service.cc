#include "launch/attention_service.h"

#include <unistd.h>

#include "launch/input_digest.h"
#include "launch/log.h"
#include "launch/report.h"
#include "launch/work_device.h"

namespace longtake {

AttentionService::AttentionService(const Job& job, const AddressFile& doors, int rank,
                                   int rank_on_node, int threads)
    : thread_([this, &job, doors, rank, rank_on_node, threads] {
        try {
          serve(job, doors, rank, rank_on_node, threads);
        } catch (const std::exception& e) {
          // The run does not depend on it.
          log_warning("rank {} computes no attention for others: {}", rank, e.what());
        }
      }) {}

AttentionService::~AttentionService() {
  (void)finish();
}

const WorkerSummary& AttentionService::finish() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  return summary_;
}

void AttentionService::serve(const Job& job, AddressFile doors, int rank, int rank_on_node,
                             int threads) {
  constexpr std::chrono::seconds kConnect{20};
  const DeviceChoice device = job.config.device;
  ThreadPool pool(threads);
  WorkDevice work(device, rank_on_node, pool);
  const WorkerHello hello{attention_numerics(device), host_name(), ::getpid(),
                          static_cast<uint64_t>(rank), nccl_gpu_of(device, rank_on_node)};
  std::vector<std::unique_ptr<PairLink>> links;
  for (const PairAddress& door : doors.ranks)
    if (door.rank != rank)
      links.push_back(connect_pair(door, doors.token, hello, kConnect,
                                   hello.gpu != 0 ? gpu_of(rank_on_node) : 0));
  WorkerRules rules;
  rules.gate = &gate_;
  summary_ = run_worker(std::move(links), rules, stop_, work.stream());
}

}  // namespace longtake
