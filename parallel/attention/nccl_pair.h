// A pair whose ends compute on different GPUs: payloads go from GPU to GPU, through two NCCL
// communicators of two ranks, one for tasks and one for answers, so that neither direction waits
// for the other. Small messages stay where they are. Nothing here waits for the other end: the
// communicators are made and used without blocking, and a receive is issued when the message that
// announces it has come, not before (parallel/comm/nccl_channel.h says why).
#pragma once

#include <chrono>

#include "parallel/attention/pair_link.h"
#include "parallel/attention/wire.h"

namespace longtake {

// One GPU's number, the same in every process of every host; 0: without that GPU or without NCCL.
uint64_t nccl_gpu_number(int gpu);

// A pair on its way from slots in the host's memory to slots on GPUs. Both ends begin one.
class NcclUpgrade {
 public:
  virtual ~NcclUpgrade() = default;
  // Null: not yet. Then the pair to use: over NCCL, or the one it began with when that cannot be
  // had on both ends or before the limit. Errors are those of the pair. Called again soon.
  virtual std::unique_ptr<PairLink> step() = 0;
  virtual std::string why_not() const = 0;  // NCCL is not used
};

// `gpu`: of this end. A rank that can not begin one posts an NcclOffer{} instead: workers that have
// told a GPU's number wait for it.
std::unique_ptr<NcclUpgrade> begin_nccl_upgrade(std::unique_ptr<PairLink> link, PairEnd end,
                                                int gpu, std::chrono::milliseconds limit);

}  // namespace longtake
