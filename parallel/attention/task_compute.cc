#include "parallel/attention/task_compute.h"

#include <vector>

#include "kernels/attention.h"
#include "kernels/copy.h"

namespace longtake {

namespace {

// The inputs of a task, in the order in which they lie in its payload.
class Inputs {
 public:
  Inputs(const AttentionTask& task, const std::byte* payload, const Device& device,
         StreamRef stream)
      : task_(task), at_(payload), device_(device), stream_(stream) {}

  // Rows that nobody keeps: in the payload itself, or a copy on the GPU.
  ConstTensor take(int64_t rows) {
    const ConstTensor x = next(rows);
    const bool aligned = reinterpret_cast<uintptr_t>(x.data) % kAlignment == 0;
    if (device_ == stream_.device() && (aligned || !stream_.on_gpu())) return x;
    return copies_.emplace_back(to_device(x, stream_));
  }

  // False: they are not here.
  bool add_keys(const TaskSegment& segment, size_t bytes, KeptKeys& kept) {
    if (segment.number == 0) {
      const ConstTensor k = take(segment.rows);
      segments_.push_back({k, take(segment.rows)});
      return true;
    }
    std::shared_ptr<const NumberedKeys> keys;
    if (!segment.resident) {
      OwnedTensor k = to_device(next(segment.rows), stream_);
      keys = std::make_shared<NumberedKeys>(
          NumberedKeys{std::move(k), to_device(next(segment.rows), stream_)});
      kept.put(segment.number, keys, bytes);
    } else if (const auto* found = kept.find(segment.number)) {
      keys = *found;
    }
    if (!keys || keys->k.shape() != shape(segment.rows) || keys->k.dtype() != task_.dtype)
      return false;
    held_.push_back(keys);
    segments_.push_back({keys->k, keys->v});
    return true;
  }

  const std::vector<KeySegment>& segments() const { return segments_; }

 private:
  static constexpr uintptr_t kAlignment = 16;  // bytes, of what a GPU's kernels read

  Shape shape(int64_t rows) const { return {rows, task_.heads, task_.head_dim}; }
  ConstTensor next(int64_t rows) {
    const ConstTensor x(at_, task_.dtype, shape(rows), device_);
    at_ += x.bytes();
    return x;
  }

  const AttentionTask& task_;
  const std::byte* at_;
  Device device_;
  StreamRef stream_;
  std::vector<OwnedTensor> copies_;
  std::vector<std::shared_ptr<const NumberedKeys>> held_;  // also when they are forgotten meanwhile
  std::vector<KeySegment> segments_;
};

}  // namespace

bool compute(const AttentionTask& task, const std::byte* in, std::byte* out,
             const Device& payload_device, KeptKeys& kept, StreamRef stream) {
  Inputs inputs(task, in, payload_device, stream);
  const ConstTensor q = inputs.take(task.queries);
  for (size_t i = 0; i < task.segment_count; ++i)
    if (!inputs.add_keys(task.segments[i], task.keys_bytes(i), kept)) return false;

  const Tensor to(out, task.dtype, {task.queries, task.heads, task.head_dim}, payload_device);
  const Tensor lse_to(task.want_lse ? out + to.bytes() : nullptr, DType::f32,
                      {task.heads, task.queries}, payload_device);
  OwnedTensor here, lse_here;  // on the GPU, when the payload is not
  if (!(payload_device == stream.device())) {
    here = OwnedTensor(task.dtype, to.shape, stream.device());
    if (task.want_lse) lse_here = OwnedTensor(DType::f32, lse_to.shape, stream.device());
  }
  attention({.q = q,
             .segments = inputs.segments(),
             .out = here ? here.view() : to,
             .scale = task.scale,
             .lse = lse_here ? lse_here.view() : lse_to},
            stream);
  if (here) copy(here, to, stream);
  if (lse_here) copy(lse_here, lse_to, stream);
  stream.synchronize();
  return true;
}

}  // namespace longtake
