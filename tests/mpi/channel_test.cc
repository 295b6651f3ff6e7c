// The channels' contract and the control plane between real processes: one program under mpirun,
// its own small runner. Every rank checks, the verdict is shared.
#include <cstdio>
#include <cstring>
#include <string>

#include "kernels/base/error.h"
#include "parallel/comm/mpi_comm.h"
#include "tests/channel/contract.h"

namespace longtake::testing {

namespace {

constexpr auto kDeadline = std::chrono::milliseconds(1500);

class Checks {
 public:
  explicit Checks(Comm& comm) : comm_(comm) {}
  void check(bool right, const char* what, const std::string& found = "") {
    if (right) return;
    ++failed_;
    std::fprintf(stderr, "[rank %d/%d] %s %s\n", comm_.rank(), comm_.ranks(), what, found.c_str());
  }
  bool passed() { return comm_.max(failed_) == 0; }

 private:
  Comm& comm_;
  int failed_ = 0;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void check_control(Comm& comm, Checks& checks) {
  const std::string mine(static_cast<size_t>(comm.rank()) * 1000 + 3,
                         static_cast<char>('a' + comm.rank()));
  const auto all = comm.gather(mine);
  checks.check(all.size() == (comm.rank() == 0 ? static_cast<size_t>(comm.ranks()) : 0),
               "gather: answers");
  for (size_t i = 0; i < all.size(); ++i)
    checks.check(all[i] == std::string(i * 1000 + 3, static_cast<char>('a' + i)),
                 "gather: another text");
  checks.check(comm.broadcast(comm.rank() == 0 ? "from 0" : "") == "from 0", "broadcast");
  checks.check(comm.max(comm.rank()) == comm.ranks() - 1, "max");
  checks.check(comm.all_same("x"), "all_same of equal texts");
  checks.check(!comm.all_same(comm.rank() == 1 ? "y" : "x"), "all_same of different texts");
}

void check_channels(Comm& comm, Checks& checks) {
  const auto transport = comm.transport({kDeadline});
  checks.check(wrong_messages_in_ring(*transport) == 0, "wrong messages");
  comm.barrier("the next check");
  const std::string size = wrong_size_error(*transport);
  checks.check(comm.rank() != 1 || has(size, "expected 6 bytes from rank 0, found 5"),
               "wrong size:", size);
  comm.barrier("the next check");
  const std::string late = missed_deadline_error(*transport, 4);
  checks.check(comm.rank() != 0 || has(late, "recv of a test: nothing from rank 1 in 1.5 s"),
               "missed deadline:", late);
  for (int rank = 0; comm.rank() == 0 && rank < comm.ranks(); ++rank)
    checks.check(has(late, fmt::format("rank {0}: work of rank {0}", rank)),
                 "who is in flight:", late);
  comm.barrier("the next check");
}

// 2 GiB and 17 bytes: more than an int counts.
void check_large(Comm& comm, Checks& checks) {
  const auto transport = comm.transport({std::chrono::minutes(1)});
  checks.check(one_message_arrives(*transport, (size_t{1} << 31) + 17), "a message over 2 GiB");
}

int run(int argc, char** argv) {
  const auto comm = make_mpi_comm({std::chrono::minutes(1)});
  const int expected = argc > 1 ? std::stoi(argv[1]) : 0;
  Checks checks(*comm);
  checks.check(comm->ranks() == expected, "started with another number of ranks");
  check_control(*comm, checks);
  check_channels(*comm, checks);
  if (argc > 2 && std::strcmp(argv[2], "large") == 0) check_large(*comm, checks);
  const bool passed = checks.passed();
  if (comm->rank() == 0) std::printf("%d ranks: %s\n", comm->ranks(), passed ? "passed" : "FAILED");
  return passed ? 0 : 1;
}

}  // namespace

}  // namespace longtake::testing

int main(int argc, char** argv) {
  try {
    return longtake::testing::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
