#include "launch/transport_choice.h"

#include <algorithm>
#include <set>
#include <vector>

#include "kernels/base/error.h"
#include "launch/log.h"
#include "launch/work_device.h"
#include "parallel/comm/ipc_channel.h"
#include "parallel/comm/nccl_channel.h"

namespace longtake {

namespace {

// Everyone's line of text, by rank, on every rank.
std::vector<std::string> all_lines(Comm& comm, const std::string& mine) {
  std::string joined;
  for (const std::string& line : comm.gather(mine)) joined += line + '\n';
  joined = comm.broadcast(joined);
  std::vector<std::string> out;
  for (size_t at = 0; at < joined.size();) {
    const size_t end = joined.find('\n', at);
    out.push_back(joined.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

// The first objection of a rank.
std::string first_reason(Comm& comm, std::string mine) {
  std::replace(mine.begin(), mine.end(), '\n', ' ');
  for (const std::string& line : all_lines(comm, mine))
    if (!line.empty()) return line;
  return "";
}

DataPathLimits find_limits(Comm& comm) {
  const int device = gpu_of(comm.rank_on_node());
  const std::vector<std::string> gpus = all_lines(comm, gpu_identity(device));
  std::string no_ipc;
  if (comm.max(comm.ranks_on_node() == comm.ranks() ? 0 : 1) != 0)
    no_ipc = "the ranks are on several hosts";
  for (size_t i = 0; no_ipc.empty() && i < gpus.size(); ++i) no_ipc = why_no_ipc(device, gpus[i]);
  std::string no_nccl;
  (void)nccl_available(&no_nccl);
  DataPathLimits out;
  out.no_ipc = first_reason(comm, no_ipc);
  out.no_nccl = first_reason(comm, no_nccl);
  out.shared_gpus = std::set<std::string>(gpus.begin(), gpus.end()).size() < gpus.size();
  return out;
}

}  // namespace

DataPathChoice choose_path(TransportChoice asked, const DataPathLimits& limits) {
  switch (asked) {
    case TransportChoice::ipc:
      if (limits.no_ipc.empty()) return {DataPath::ipc, "asked for"};
      return {DataPath::mpi, "parallel.transport: ipc cannot be used: " + limits.no_ipc, true};
    case TransportChoice::nccl:  // NCCL itself says whether it can share a GPU
      if (limits.no_nccl.empty()) return {DataPath::nccl, "asked for"};
      return {DataPath::mpi, "parallel.transport: nccl cannot be used: " + limits.no_nccl, true};
    case TransportChoice::automatic:
      break;
    case TransportChoice::mpi:
    case TransportChoice::loopback:
      return {DataPath::mpi, "asked for"};
  }
  if (limits.no_ipc.empty()) return {DataPath::ipc, "every GPU reaches every other"};
  if (limits.no_nccl.empty() && !limits.shared_gpus)
    return {DataPath::nccl, "no ipc: " + limits.no_ipc};
  return {DataPath::mpi,
          fmt::format("no ipc: {}; no nccl: {}", limits.no_ipc,
                      limits.no_nccl.empty() ? "ranks share a GPU" : limits.no_nccl)};
}

DataPath choose_transport(const RunConfig& config, Comm& comm) {
  const TransportChoice asked = config.parallel.transport;
  if (comm.ranks() == 1 || config.device != DeviceChoice::cuda) return DataPath::mpi;
  const DataPathChoice choice = choose_path(asked, find_limits(comm));
  if (choice.failed) fail(ExitCode::usage, "{}", choice.why);
  constexpr const char* kSays[] = {"through host memory and MPI", "by copy engines (ipc)",
                                   "by NCCL"};
  if (comm.rank() == 0)
    log_info("data between GPUs go {}: {}", kSays[static_cast<int>(choice.path)], choice.why);
  return choice.path;
}

std::unique_ptr<Transport> make_transport(DataPath path, std::unique_ptr<Transport> control,
                                          StreamRef stream, Deadline deadline) {
  if (path == DataPath::ipc) return make_ipc_transport(std::move(control), stream.cuda(), deadline);
  if (path == DataPath::nccl)
    return make_nccl_transport(std::move(control), stream.cuda(), deadline);
  return control;
}

}  // namespace longtake
