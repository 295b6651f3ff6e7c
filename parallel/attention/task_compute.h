// What a worker does with a task, and the keys that it keeps between tasks.
#pragma once

#include <memory>

#include "kernels/base/stream.h"
#include "parallel/attention/lru.h"
#include "parallel/attention/task.h"

namespace longtake {

// k and v [rows, heads, head_dim] on the worker's device.
struct NumberedKeys {
  OwnedTensor k, v;
};
using KeptKeys = Lru<uint64_t, std::shared_ptr<const NumberedKeys>>;

// Payload of a task -> payload of its answer, both on the host or both on the stream's GPU; done
// when the call returns. False: keys that it names are not here.
bool compute(const AttentionTask& task, const std::byte* in, std::byte* out,
             const Device& payload_device, KeptKeys& kept, StreamRef stream);

}  // namespace longtake
