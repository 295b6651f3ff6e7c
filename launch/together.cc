#include "launch/together.h"

#include <exception>

namespace longtake {

void together(Comm& comm, const std::string& what, const std::function<void()>& work,
              const std::function<void()>& undo) {
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  comm.barrier(what);
  if (comm.max(error ? 1 : 0) == 0) return;
  undo();
  comm.barrier("all ranks to have cleaned up");
  if (error) std::rethrow_exception(error);
  comm.barrier("the rank that failed to end the job");
}

}  // namespace longtake
