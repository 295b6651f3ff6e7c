// Attention on the CPU: cuts a call into packing and query tiles for the thread pool.
#pragma once

#include "kernels/attention.h"

namespace longtake::cpu {

// The arguments are checked (kernels/attention.cc).
void attention(const AttentionArgs& args, ThreadPool& pool);

}  // namespace longtake::cpu
