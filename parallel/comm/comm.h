// The control plane of a job: few, small, blocking messages. One process is a job of one rank.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/channel.h"

namespace longtake {

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;
  virtual int ranks_on_node() const = 0;
  virtual int rank_on_node() const = 0;
  virtual void barrier(const std::string& what) = 0;
  virtual std::string broadcast(const std::string& from_rank_0) = 0;     // any bytes
  virtual std::vector<std::string> gather(const std::string& mine) = 0;  // on rank 0, else empty
  virtual int64_t max(int64_t mine) = 0;
  virtual bool all_same(const std::string& text) = 0;  // on every rank the answer
  virtual std::unique_ptr<Transport> transport(Deadline deadline) = 0;
  // Ends every process of the job with this exit code. Does not return.
  [[noreturn]] virtual void abort(int code) = 0;
};

// Over MPI, or a job of one process. Collectives obey the deadline too.
std::unique_ptr<Comm> make_comm(bool with_mpi, Deadline deadline);

}  // namespace longtake
