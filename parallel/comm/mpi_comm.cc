#include "parallel/comm/mpi_comm.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "kernels/base/error.h"
#include "parallel/comm/mpi_channel.h"

namespace longtake {

void check_mpi(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(ExitCode::error, "{}: {}", call, std::string(text, static_cast<size_t>(length)));
}

namespace {

class MpiComm : public Comm {
 public:
  explicit MpiComm(Deadline deadline) : deadline_(deadline) {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler");
    LT_CHECK(provided >= MPI_THREAD_FUNNELED, "this MPI cannot be used beside other threads");
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &ranks_), "MPI_Comm_size");
    MPI_Comm node;
    check_mpi(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
    check_mpi(MPI_Comm_size(node, &ranks_on_node_), "MPI_Comm_size");
    check_mpi(MPI_Comm_rank(node, &rank_on_node_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_free(&node), "MPI_Comm_free");
  }
  ~MpiComm() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  int ranks_on_node() const override { return ranks_on_node_; }
  int rank_on_node() const override { return rank_on_node_; }

  void barrier(const std::string& what) override {
    MPI_Request request;
    check_mpi(MPI_Ibarrier(MPI_COMM_WORLD, &request), "MPI_Ibarrier");
    wait(request, what);
  }

  std::string broadcast(const std::string& from_rank_0) override {
    int64_t size = static_cast<int64_t>(from_rank_0.size());
    MPI_Request request;
    check_mpi(MPI_Ibcast(&size, 1, MPI_INT64_T, 0, MPI_COMM_WORLD, &request), "MPI_Ibcast");
    wait(request, "a broadcast's size");
    std::string out = rank_ == 0 ? from_rank_0 : std::string(static_cast<size_t>(size), '\0');
    for_pieces(out.size(), [&](size_t at, int count) {
      check_mpi(MPI_Ibcast(out.data() + at, count, MPI_CHAR, 0, MPI_COMM_WORLD, &request),
                "MPI_Ibcast");
      wait(request, "a broadcast");
    });
    return out;
  }

  std::vector<std::string> gather(const std::string& mine) override {
    const auto size = static_cast<int64_t>(mine.size());
    std::vector<int64_t> sizes(static_cast<size_t>(ranks_));
    MPI_Request request;
    check_mpi(MPI_Igather(&size, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, 0, MPI_COMM_WORLD,
                          &request),
              "MPI_Igather");
    wait(request, "the sizes of a gather");
    if (rank_ != 0) {
      for_pieces(mine.size(), [&](size_t at, int count) {
        check_mpi(
            MPI_Isend(mine.data() + at, count, MPI_CHAR, 0, kGather, MPI_COMM_WORLD, &request),
            "MPI_Isend");
        wait(request, "a gather");
      });
      return {};
    }
    std::vector<std::string> out{mine};
    for (int from = 1; from < ranks_; ++from) {
      std::string text(static_cast<size_t>(sizes[static_cast<size_t>(from)]), ' ');
      for_pieces(text.size(), [&](size_t at, int count) {
        check_mpi(
            MPI_Irecv(text.data() + at, count, MPI_CHAR, from, kGather, MPI_COMM_WORLD, &request),
            "MPI_Irecv");
        wait(request, fmt::format("a gather from rank {}", from));
      });
      out.push_back(std::move(text));
    }
    return out;
  }

  int64_t max(int64_t mine) override {
    int64_t most = mine;
    MPI_Request request;
    check_mpi(MPI_Iallreduce(&mine, &most, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD, &request),
              "MPI_Iallreduce");
    wait(request, "a maximum over the ranks");
    return most;
  }

  bool all_same(const std::string& text) override {
    const std::string first = broadcast(text);
    return max(first == text ? 0 : 1) == 0;
  }

  std::unique_ptr<Transport> transport(Deadline deadline) override {
    return make_mpi_transport(rank_, ranks_, deadline);
  }

  [[noreturn]] void abort(int code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
  }

 private:
  static constexpr int kGather = 30002;  // beside the tags of mpi_inquiry.cc

  // Counts are int.
  template <class F>
  static void for_pieces(size_t bytes, F f) {
    constexpr size_t kPiece = size_t{1} << 30;
    for (size_t at = 0; at < bytes; at += kPiece)
      f(at, static_cast<int>(std::min(kPiece, bytes - at)));
  }

  void wait(MPI_Request& request, const std::string& what) {
    const auto end = std::chrono::steady_clock::now() + deadline_.limit;
    for (int done = 0, turns = 0; done == 0; ++turns) {
      check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done != 0) return;
      if (std::chrono::steady_clock::now() >= end)
        fail(ExitCode::watchdog, "rank {}/{}: {}: a rank did not come in {:.1f} s", rank_, ranks_,
             what, std::chrono::duration<double>(deadline_.limit).count());
      // Collectives come while others compute for long: give the core away.
      if (turns > 100) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  Deadline deadline_;
  int rank_ = 0, ranks_ = 1, ranks_on_node_ = 1, rank_on_node_ = 0;
};

// A job of one process, without MPI.
class SingleComm : public Comm {
 public:
  int rank() const override { return 0; }
  int ranks() const override { return 1; }
  int ranks_on_node() const override { return 1; }
  int rank_on_node() const override { return 0; }
  void barrier(const std::string&) override {}
  std::string broadcast(const std::string& text) override { return text; }
  std::vector<std::string> gather(const std::string& mine) override { return {mine}; }
  int64_t max(int64_t mine) override { return mine; }
  bool all_same(const std::string&) override { return true; }
  std::unique_ptr<Transport> transport(Deadline) override { return nullptr; }
  [[noreturn]] void abort(int code) override {
    std::fflush(nullptr);
    _exit(code);
  }
};

}  // namespace

std::unique_ptr<Comm> make_mpi_comm(Deadline deadline) {
  return std::make_unique<MpiComm>(deadline);
}

std::unique_ptr<Comm> make_comm(bool with_mpi, Deadline deadline) {
  if (with_mpi) return make_mpi_comm(deadline);
  return std::make_unique<SingleComm>();
}

}  // namespace longtake
