// The channels' contract between two processes with a GPU, without MPI, and the time of a hop.
//   gpu_channel_pair [KIND...]; KIND: ipc nccl (both processes on GPU 0), ipc-two nccl-two (a GPU
//   each); by default all of them. A kind that this machine cannot do is skipped with its reason.
// The program starts itself twice for each kind, with the ends of a socket pair.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/copy.h"
#include "kernels/cuda/stream.h"
#include "parallel/comm/ipc_channel.h"
#include "parallel/comm/nccl_channel.h"
#include "tests/channel/contract.h"
#include "tests/support/socket_transport.h"

namespace longtake::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSkipped = 77;
constexpr auto kLimit = std::chrono::seconds(100);  // of one kind
constexpr Deadline kPatient{std::chrono::seconds(40)}, kShort{std::chrono::seconds(2)};

// Two ranks look like two hosts to NCCL, which refuses to share a GPU otherwise.
void disguise_as_hosts(int rank) {
  const std::string host = std::to_string(rank);
  for (const auto& [name, value] :
       std::initializer_list<std::pair<const char*, const char*> >{{"NCCL_HOSTID", host.c_str()},
                                                                   {"NCCL_P2P_DISABLE", "1"},
                                                                   {"NCCL_SHM_DISABLE", "1"},
                                                                   {"NCCL_MNNVL_ENABLE", "0"},
                                                                   {"NCCL_SOCKET_IFNAME", "lo"},
                                                                   {"NCCL_IB_DISABLE", "1"},
                                                                   {"NCCL_RAS_ENABLE", "0"},
                                                                   {"NCCL_MAX_CTAS", "1"}})
    setenv(name, value, 1);
}

class Rank {
 public:
  Rank(std::string kind, int rank, int socket)
      : kind_(std::move(kind)), rank_(rank), socket_(make_socket_end(socket, rank)) {}

  int run() {
    std::string why;
    if (!can(&why)) {
      if (rank_ == 0) std::printf("%s: skipped: %s\n", kind_.c_str(), why.c_str());
      return kSkipped;
    }
    compute_.emplace(two_gpus() ? rank_ : 0);
    if (!connect()) return kSkipped;
    for (const size_t bytes : {size_t{1} << 20, size_t{16} << 20, size_t{101} << 20})
      time_hops(bytes);
    check_contract();
    std::fflush(stdout);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  bool nccl() const { return kind_.starts_with("nccl"); }
  bool two_gpus() const { return kind_.ends_with("-two"); }

  bool can(std::string* why) {
    if (nccl() && !two_gpus()) disguise_as_hosts(rank_);
    const size_t gpus = cuda::devices(why).size();
    if (gpus == 0) return false;
    if (two_gpus() && gpus < 2) {
      *why = "there is one GPU";
      return false;
    }
    if (nccl()) return nccl_available(why);
    *why = why_no_ipc(two_gpus() ? rank_ : 0, gpu_identity(two_gpus() ? 1 - rank_ : 0));
    return why->empty();
  }

  std::unique_ptr<Transport> transport(Deadline deadline) {
    auto control = make_socket_transport(socket_, deadline);
    return nccl() ? make_nccl_transport(std::move(control), *compute_, deadline)
                  : make_ipc_transport(std::move(control), *compute_, deadline);
  }

  void check(bool right, const std::string& what) {
    if (rank_ == 1 || !right)
      std::printf("%s rank %d: %s: %s\n", kind_.c_str(), rank_, what.c_str(),
                  right ? "passed" : "FAILED");
    if (!right) ++failed_;
  }

  // Whether NCCL lets two ranks share a GPU is seen by trying. Any other failure is one.
  bool connect() {
    try {
      const auto t = transport(kPatient);
      const auto out = rank_ == 0 ? t->open_send(1, 1, 64, 1) : nullptr;
      const auto in = rank_ == 1 ? t->open_receive(0, 1, 64, 1) : nullptr;
      t->ready();
      return true;
    } catch (const Error& error) {
      const std::string why = error.what();
      const bool refused = why.find("Duplicate GPU") != std::string::npos ||
                           why.find("invalid usage") != std::string::npos;
      if (!nccl() || two_gpus() || !refused) throw;
      std::printf("%s rank %d: skipped, two ranks cannot share this GPU: %s\n", kind_.c_str(),
                  rank_, why.c_str());
      return false;
    }
  }

  ChannelCopy copy_by_stream() {
    return [this](const void* from, Device from_device, void* to, Device to_device, size_t bytes) {
      if (bytes == 0) return;
      const longtake::Shape shape{static_cast<int64_t>(bytes)};
      copy({from, DType::u8, shape, from_device}, {to, DType::u8, shape, to_device}, stream());
    };
  }
  StreamRef stream() { return StreamRef(*compute_, pool_); }

  void check_contract() {
    {
      const auto t = transport(kPatient);
      check(wrong_messages_in_ring(*t, copy_by_stream()) == 0, "a ring of 200 messages");
      check(one_message_arrives(*t, size_t{200} << 20, copy_by_stream()), "a message of 200 MiB");
      const std::string size = wrong_size_error(*t);
      check(rank_ == 0 || size.find("recv of a test: expected 6 bytes from rank 0, found 5") !=
                              std::string::npos,
            "a message of another size is refused " + size);
    }
    // Both begin it together.
    const auto meet = make_socket_transport(socket_, kPatient);
    meet_at(*meet);
    const auto t = transport(nccl() ? Deadline{std::chrono::seconds(15)} : kShort);
    const double limit_s = nccl() ? 15 : 2;
    const std::string late = missed_deadline_error(*t, limit_s + 1);
    check(rank_ == 1 || late.find(fmt::format("recv of a test: nothing from rank 1 in {:.1f} s",
                                              limit_s)) != std::string::npos,
          "a missed deadline says what was waited for " + late);
  }

  void meet_at(Transport& t) {
    const auto out = t.open_send(1 - rank_, 1, 1, 1);
    const auto in = t.open_receive(1 - rank_, 1, 1, 1);
    *static_cast<char*>(out->acquire("the other rank")) = 1;
    out->send(1);
    (void)in->receive(1, "the other rank");
  }

  // There and back, ten times; half of a round trip, the median.
  void time_hops(size_t bytes) {
    constexpr int kRounds = 12, kWarmUp = 2;
    const auto t = transport(kPatient);
    const auto out = t->open_send(1 - rank_, 2, bytes, 2);
    const auto in = t->open_receive(1 - rank_, 2, bytes, 2);
    t->ready();
    std::vector<double> hops;
    for (int round = 0; round < kRounds; ++round) {
      const Clock::time_point start = Clock::now();
      const auto send = [&] {
        (void)out->acquire("a free buffer");
        out->send(bytes);
      };
      const auto receive = [&] {
        (void)in->receive(bytes, "a hop");
        in->release();
      };
      if (rank_ == 0) send();
      receive();
      if (rank_ == 1) send();
      if (round >= kWarmUp)
        hops.push_back(std::chrono::duration<double>(Clock::now() - start).count() / 2);
    }
    out->flush("the last hop");
    std::sort(hops.begin(), hops.end());
    const double hop = hops[hops.size() / 2];
    if (rank_ == 0)
      std::printf("%s: %zu MiB: a hop takes %.3f ms, %.1f GB/s\n", kind_.c_str(), bytes >> 20,
                  1e3 * hop, 1e-9 * static_cast<double>(bytes) / hop);
  }

  std::string kind_;
  int rank_;
  std::shared_ptr<SocketEnd> socket_;
  ThreadPool pool_{1};
  std::optional<cuda::Stream> compute_;
  int failed_ = 0;
};

int run_rank(const std::string& kind, int rank, int socket) {
  try {
    return Rank(kind, rank, socket).run();
  } catch (const std::exception& e) {
    std::printf("%s rank %d: FAILED: %s\n", kind.c_str(), rank, e.what());
    std::fflush(stdout);
    return 1;
  }
}

// Exit code of a child, which is killed when it takes too long.
int ended(pid_t child, Clock::time_point limit) {
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (Clock::now() >= limit) {
      std::printf("FAILED: a rank did not end in time\n");
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

// No call of CUDA is made before the children are programs of their own.
int run_pair(const char* program, const std::string& kind) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) {
    std::perror("socketpair");
    return 1;
  }
  std::fflush(stdout);
  pid_t children[2];
  for (int rank = 0; rank < 2; ++rank) {
    children[rank] = fork();
    if (children[rank] < 0) {
      std::perror("fork");
      return 1;
    }
    if (children[rank] > 0) continue;
    close(sockets[1 - rank]);
    const std::string here = std::to_string(rank), socket = std::to_string(sockets[rank]);
    execl(program, program, "--rank", kind.c_str(), here.c_str(), socket.c_str(), nullptr);
    std::perror(program);
    _exit(1);
  }
  for (const int socket : sockets) close(socket);
  const Clock::time_point limit = Clock::now() + kLimit;
  const int first = ended(children[0], limit), second = ended(children[1], limit);
  if (first == kSkipped && second == kSkipped) return kSkipped;
  const int code = first == 0 && second == 0 ? 0 : 1;
  std::printf("%s: %s\n", kind.c_str(), code == 0 ? "passed" : "FAILED");
  return code;
}

int run(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--rank")
    return run_rank(argv[2], std::stoi(argv[3]), std::stoi(argv[4]));
  std::vector<std::string> kinds(argv + 1, argv + argc);
  if (kinds.empty()) kinds = {"ipc", "ipc-two", "nccl", "nccl-two"};
  bool any = false, failed = false;
  for (const std::string& kind : kinds) {
    const int code = run_pair("/proc/self/exe", kind);
    any = any || code != kSkipped;
    failed = failed || (code != 0 && code != kSkipped);
  }
  if (failed) return 1;
  return any ? 0 : kSkipped;
}

}  // namespace
}  // namespace longtake::testing

int main(int argc, char** argv) {
  return longtake::testing::run(argc, argv);
}
