#include "parallel/comm/mpi_inquiry.h"

#include <chrono>
#include <thread>

#include "kernels/base/error.h"
#include "parallel/comm/mpi_channel.h"

namespace longtake {

namespace {

// Data channels use the tags of payloads, which are small.
constexpr int kQuestion = 30000, kAnswer = 30001;
constexpr auto kPatience = std::chrono::seconds(2);
constexpr auto kSleep = std::chrono::milliseconds(1);

bool has_come(int tag, MPI_Status& status) {
  int flag = 0;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &flag, &status), "MPI_Iprobe");
  return flag != 0;
}

}  // namespace

void MpiInquiry::answer() {
  MPI_Status status;
  while (has_come(kQuestion, status)) {
    check_mpi(MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, kQuestion, MPI_COMM_WORLD,
                       MPI_STATUS_IGNORE),
              "MPI_Recv");
    if (last_answer_.empty()) last_answer_ = doing();
    MPI_Request request;
    check_mpi(MPI_Isend(last_answer_.data(), static_cast<int>(last_answer_.size()), MPI_CHAR,
                        status.MPI_SOURCE, kAnswer, MPI_COMM_WORLD, &request),
              "MPI_Isend");
    check_mpi(MPI_Request_free(&request), "MPI_Request_free");
  }
}

void MpiInquiry::take_answers(std::vector<std::string>& answers) const {
  MPI_Status status;
  while (has_come(kAnswer, status)) {
    int size = 0;
    check_mpi(MPI_Get_count(&status, MPI_CHAR, &size), "MPI_Get_count");
    std::string text(static_cast<size_t>(size), ' ');
    check_mpi(MPI_Recv(text.data(), size, MPI_CHAR, status.MPI_SOURCE, kAnswer, MPI_COMM_WORLD,
                       MPI_STATUS_IGNORE),
              "MPI_Recv");
    answers[static_cast<size_t>(status.MPI_SOURCE)] = text;
  }
}

std::string MpiInquiry::ask() {
  std::vector<std::string> answers(static_cast<size_t>(ranks_));
  answers[static_cast<size_t>(rank_)] = doing();
  for (int to = 0; to < ranks_; ++to) {
    if (to == rank_) continue;
    MPI_Request request;
    check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, to, kQuestion, MPI_COMM_WORLD, &request),
              "MPI_Isend");
    check_mpi(MPI_Request_free(&request), "MPI_Request_free");
  }
  const auto end = std::chrono::steady_clock::now() + kPatience;
  const auto all_answered = [&] {
    for (const std::string& text : answers)
      if (text.empty()) return false;
    return true;
  };
  while (!all_answered() && std::chrono::steady_clock::now() < end) {
    answer();
    take_answers(answers);
    std::this_thread::sleep_for(kSleep);
  }
  std::string out;
  for (size_t i = 0; i < answers.size(); ++i)
    out += fmt::format("{}rank {}: {}", i == 0 ? "" : "; ", i,
                       answers[i].empty() ? "no answer" : answers[i]);
  return out;
}

}  // namespace longtake
