#include "parallel/attention/task_compute.h"

#include <vector>

#include "kernels/attention.h"
#include "kernels/copy.h"

namespace longtake {

namespace {

// The inputs of a task, in the order in which they lie in its payload.
class Inputs {
 public:
  Inputs(const AttentionTask& task, const std::byte* payload, StreamRef stream)
      : task_(task), at_(payload), stream_(stream) {}

  // Rows that nobody keeps: in the payload itself, or a copy on the GPU.
  ConstTensor take(int64_t rows) {
    const ConstTensor host = next(rows);
    if (!stream_.on_gpu()) return host;
    return copies_.emplace_back(to_device(host, stream_));
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
  Shape shape(int64_t rows) const { return {rows, task_.heads, task_.head_dim}; }
  ConstTensor next(int64_t rows) {
    const ConstTensor x(at_, task_.dtype, shape(rows));
    at_ += x.bytes();
    return x;
  }

  const AttentionTask& task_;
  const std::byte* at_;
  StreamRef stream_;
  std::vector<OwnedTensor> copies_;
  std::vector<std::shared_ptr<const NumberedKeys>> held_;  // also when they are forgotten meanwhile
  std::vector<KeySegment> segments_;
};

}  // namespace

bool compute(const AttentionTask& task, const std::byte* in, std::byte* out, KeptKeys& kept,
             StreamRef stream) {
  Inputs inputs(task, in, stream);
  const ConstTensor q = inputs.take(task.queries);
  for (size_t i = 0; i < task.segment_count; ++i)
    if (!inputs.add_keys(task.segments[i], task.keys_bytes(i), kept)) return false;

  const Tensor host_out(out, task.dtype, {task.queries, task.heads, task.head_dim});
  const Tensor host_lse(task.want_lse ? out + host_out.bytes() : nullptr, DType::f32,
                        {task.heads, task.queries});
  OwnedTensor on_gpu, lse_on_gpu;
  if (stream.on_gpu()) {
    on_gpu = OwnedTensor(task.dtype, host_out.shape, stream.device());
    if (task.want_lse) lse_on_gpu = OwnedTensor(DType::f32, host_lse.shape, stream.device());
  }
  attention({.q = q,
             .segments = inputs.segments(),
             .out = on_gpu ? on_gpu.view() : host_out,
             .scale = task.scale,
             .lse = !task.want_lse ? Tensor{}
                    : lse_on_gpu   ? lse_on_gpu.view()
                                   : host_lse},
            stream);
  if (on_gpu) copy(on_gpu, host_out, stream);
  if (lse_on_gpu) copy(lse_on_gpu, host_lse, stream);
  return true;
}

}  // namespace longtake
