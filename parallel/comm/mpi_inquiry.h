// "What are you doing?" between ranks, for the message of a missed deadline: asked once, answered
// by everyone who still polls. The probe for questions also lets other messages move on.
#pragma once

#include <mpi.h>

#include <functional>
#include <string>
#include <vector>

namespace longtake {

class MpiInquiry {
 public:
  MpiInquiry(int rank, int ranks) : rank_(rank), ranks_(ranks) {}

  void answer_with(std::function<std::string()> doing) { doing_ = std::move(doing); }
  // Answers questions that have come.
  void answer();
  // "rank 0: ...; rank 1: no answer; ...": of all ranks that answer within two seconds.
  std::string ask();

 private:
  std::string doing() const { return doing_ ? doing_() : "nothing yet"; }
  void take_answers(std::vector<std::string>& answers) const;

  int rank_, ranks_;
  std::function<std::string()> doing_;
  std::string last_answer_;  // stays until the job ends: nobody waits for its arrival
};

}  // namespace longtake
