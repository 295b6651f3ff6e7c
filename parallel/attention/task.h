// What a pipeline rank asks of an attention worker and what it gets back: softmax(scale q k^T) v of
// some heads and query rows, which is pure, so that it can be asked of anybody, twice or again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/base/tensor.h"

namespace longtake {

// Keys of one segment of the window, of the task's heads. They come with the task, unless they are
// `resident`: then the worker has them from a task before. It keeps those that have a number, which
// is made of their content: keys of one number are the same, whatever they were computed for.
struct TaskSegment {
  uint32_t rows = 0;
  uint64_t number = 0;  // 0: they need not be kept
  bool resident = false;
};

// Its payload: q [queries, heads, head_dim], then k and v [rows, heads, head_dim] of each segment
// that is not resident, all in `dtype`, one after the other without gaps.
struct AttentionTask {
  uint64_t id = 0;
  uint32_t epoch = 0;  // of the worker's session; answers of another one are dropped
  uint16_t slot = 0;   // of the pair, where the payload lies and the answer will
  bool want_lse = false;
  bool canary = false;  // asked only to compare the answer with the rank's own
  DType dtype = DType::f32;
  uint16_t first_head = 0, heads = 0, head_dim = 0;
  uint32_t first_query = 0, queries = 0;
  int32_t block = 0, step = 0, layer = 0;
  uint8_t branch = 0;
  float scale = 1;
  uint8_t segment_count = 0;
  std::array<TaskSegment, 3> segments{};
  uint64_t checksum = 0;  // of the payload

  bool names_resident_keys() const;
  size_t keys_bytes(size_t segment) const;  // with their values, of all heads
  size_t payload_bytes() const;             // of what comes with it
  size_t answer_bytes() const;  // out [queries, heads, head_dim], then lse f32 [heads, queries]
};

enum class AnswerStatus : uint8_t { ok, need_keys, busy, bad_payload, failed };

struct AttentionAnswer {
  uint64_t id = 0;
  uint32_t epoch = 0;
  uint16_t slot = 0;
  AnswerStatus status = AnswerStatus::ok;
  uint64_t payload_bytes = 0;       // 0 unless ok
  float queue_s = 0, kernel_s = 0;  // waiting at the worker, computing
  uint64_t checksum = 0;            // of the payload
};

struct Heartbeat {
  uint32_t queued = 0;      // tasks at the worker
  bool available = true;    // it computes now; one in a rank that is busy does not
  uint64_t keep_bytes = 0;  // of numbered keys that it keeps for this rank, the last used ones
};

// An orderly end: the run is over, or the worker leaves. What it had is asked of others.
struct Goodbye {};

// Whether the payloads may go from GPU to GPU, through two communicators of two ranks each
// (nccl_pair.h): the rank offers, both say what came of it, the rank last.
struct NcclOffer {
  bool possible = false;
  std::array<std::byte, 128> tasks{}, answers{};  // ncclUniqueId
};
struct NcclVerdict {
  bool ready = false;
};

// XXH3, 64 bits. Of payloads in a GPU's memory it is 0 and not compared.
uint64_t payload_checksum(const void* data, size_t bytes);

// The number of keys [rows, heads, head_dim] with their values, on the host; never 0.
uint64_t number_of(ConstTensor k, ConstTensor v);

}  // namespace longtake
