// Work that every rank does before a run begins: when one fails, all clean up before the job ends.
#pragma once

#include <functional>
#include <string>

#include "parallel/comm/comm.h"

namespace longtake {

// Does `work`, then waits for all ranks (`what` is said when that takes too long). If it failed on
// any, every rank undoes what it has made so far, and then the ranks that failed throw; the others
// wait to be ended with the job.
void together(Comm& comm, const std::string& what, const std::function<void()>& work,
              const std::function<void()>& undo);

}  // namespace longtake
